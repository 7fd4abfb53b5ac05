"""The loss by hand: sums over supervised tokens, divided by their count."""

from __future__ import annotations

import math

import torch

from sightline.training.loss import supervised_columns, token_loss


def test_columns_predict_the_next_token() -> None:
    labels = torch.tensor([[-100, -100, 5, 6, -100], [-100, 7, -100, -100, -100]])
    columns, targets = supervised_columns(labels)
    assert columns.tolist() == [0, 1, 2]
    assert targets.tolist() == [[-100, 5, 6], [7, -100, -100]]


def test_a_label_on_the_first_token_predicts_nothing() -> None:
    assert supervised_columns(torch.tensor([[3, -100]])).columns.tolist() == []


def test_uniform_logits_cost_the_log_of_the_vocabulary() -> None:
    loss = token_loss(torch.zeros(1, 3, 8), torch.tensor([[1, -100, 2]]), 2)
    assert math.isclose(float(loss), math.log(8), rel_tol=1e-6)


def test_micro_batches_add_up_to_the_whole() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(4, 5, 11), torch.randint(0, 11, (4, 5))
    targets[0, :4] = -100  # rows of unequal length: a mean of means would differ
    count = int((targets != -100).sum())
    whole = token_loss(logits, targets, count)
    parts = sum(token_loss(logits[i : i + 1], targets[i : i + 1], count) for i in range(4))
    torch.testing.assert_close(whole, parts)
    means = [
        token_loss(logits[i : i + 1], targets[i : i + 1], int((targets[i] != -100).sum()))
        for i in range(4)
    ]
    assert abs(float(whole - sum(means) / 4)) > 1e-3


def test_nothing_supervised_is_a_loss_of_zero_with_gradients_of_zero() -> None:
    logits = torch.randn(1, 3, 7, requires_grad=True)
    targets = torch.full((1, 3), -100)
    for tokens in (0, torch.tensor(0)):
        loss = token_loss(logits, targets, tokens)
        assert loss.item() == 0.0
        loss.backward()
        assert logits.grad is not None
        assert not logits.grad.any()
