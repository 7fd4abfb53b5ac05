"""The loss by hand: sums over supervised tokens, divided by their count."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from sightline.training.loss import model_loss, supervised_tokens


class Uniform(nn.Module):
    """Stands for a model that returns losses: each supervised token costs the log of 8."""

    def __init__(self) -> None:
        super().__init__()
        self.given: dict[str, Any] = {}
        self.weight = nn.Parameter(torch.tensor(math.log(8)))

    def forward(self, **given: Any) -> torch.Tensor:
        self.given = given
        return self.weight * len(given["supervised"].targets)


def test_tokens_predict_the_next_one() -> None:
    labels = torch.tensor([[-100, -100, 5, 6, -100], [-100, 7, -100, -100, -100]])
    found = supervised_tokens(labels)
    assert found.tokens.tolist() == [1, 2, 5]
    assert found.targets.tolist() == [5, 6, 7]


def test_a_label_on_the_first_token_of_a_row_predicts_nothing() -> None:
    labels = torch.tensor([[3, -100, 4], [9, -100, -100]])
    assert supervised_tokens(labels).tokens.tolist() == [1]


def test_the_loss_is_a_mean_over_the_tokens_of_the_whole_step() -> None:
    model, batch = Uniform(), {"labels": torch.tensor([[-100, 5, 6, -100]])}
    for count, mean in ((None, math.log(8)), (8, math.log(8) / 4), (torch.tensor(1), math.log(64))):
        loss, own = model_loss(model, dict(batch), count)
        assert own == 2
        assert math.isclose(float(loss), mean, rel_tol=1e-6)


def test_the_model_is_given_what_is_its_own() -> None:
    model = Uniform()
    given = {"labels": torch.tensor([[-100, 5, 6]]), "input_ids": torch.tensor([[1, 5, 6]])}
    borders = {"cu_seqlens": torch.tensor([0, 1, 3]), "longest": 2}
    model_loss(model, given | borders, None)
    assert set(model.given) == {"input_ids", "supervised", "segments"}
    assert model.given["segments"].lengths == (1, 2)
    model_loss(model, given, None)
    assert model.given["segments"] is None
    found = {"supervised": torch.tensor([0]), "targets": torch.tensor([5])}
    _, own = model_loss(model, given | found, None)
    assert own == 1
    assert model.given["supervised"].tokens.tolist() == [0]


def test_nothing_supervised_is_a_loss_of_zero_with_gradients_of_zero() -> None:
    for tokens in (0, torch.tensor(0), None):
        model = Uniform()
        loss, own = model_loss(model, {"labels": torch.full((1, 3), -100)}, tokens)
        assert (loss.item(), own) == (0.0, 0)
        loss.backward()
        assert model.weight.grad is not None
        assert not model.weight.grad.any()
