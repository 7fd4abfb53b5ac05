"""Head and loss are those of the models' own classes when they are given labels."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sightline.model import Supervised, load_weights, return_losses
from sightline.model.head_loss import head_loss

FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


def _labels(ids: torch.Tensor, share: float) -> torch.Tensor:
    """Labels of a share of the tokens, in runs, as answers have them."""
    labels = torch.full_like(ids, -100)
    length = int(share * ids.shape[1])
    labels[0, -length:] = ids[0, -length:]
    labels[1, 3 : 3 + length] = ids[1, 3 : 3 + length]
    return labels


def _supervised(labels: torch.Tensor) -> Supervised:
    """Tokens and targets, found by a loop."""
    rows, length = labels.shape
    found = [
        (row * length + column, int(labels[row, column + 1]))
        for row in range(rows)
        for column in range(length - 1)
        if labels[row, column + 1] != -100
    ]
    tokens, targets = zip(*found, strict=True)
    return Supervised(torch.tensor(tokens), torch.tensor(targets))


@pytest.mark.parametrize("share", [0.15, 0.73])
@pytest.mark.parametrize("family", FAMILY_KEYS)
def test_loss_and_gradients_are_those_of_labels(
    family: str, share: float, tiny_folder: Callable[[str], Path]
) -> None:
    model: Any = load_weights(str(tiny_folder(family)), dtype=torch.float32).train()
    torch.manual_seed(5)
    ids = torch.randint(0, 200, (2, 40))
    labels = _labels(ids, share)
    supervised = _supervised(labels)
    positions = torch.arange(40).expand(4, 2, 40)
    own = copy.deepcopy(model)
    right = own(input_ids=ids, position_ids=positions[1:], labels=labels).loss
    right.backward()
    total = return_losses(model)(input_ids=ids, position_ids=positions, supervised=supervised)
    found = total / len(supervised.targets)
    found.backward()
    assert float((found - right).abs().detach() / right.detach()) < 1e-6
    num_compared = 0
    for (name, theirs), ours in zip(own.named_parameters(), model.parameters(), strict=True):
        assert (theirs.grad is None) == (ours.grad is None), name
        if theirs.grad is not None:
            # Small numbers at the end of a long way: measured by the largest of their tensor.
            error = (ours.grad - theirs.grad).norm() / theirs.grad.norm()
            assert float(error) < 2e-6, name
            num_compared += 1
    assert num_compared > 20
    head = own.get_output_embeddings()
    hidden = own.base_model(input_ids=ids, position_ids=positions).last_hidden_state
    states = hidden.flatten(0, 1)[supervised.tokens].detach().requires_grad_()
    logits = head(states)
    plain = own.loss_function(
        logits, None, own.config.text_config.vocab_size, shift_labels=supervised.targets
    )
    mine = head_loss(head, states, supervised.targets) / len(supervised.targets)
    slopes = (torch.autograd.grad(one, [states, head.weight]) for one in (mine, plain))
    for ours, theirs in zip(*slopes, strict=True):
        assert float((ours - theirs).norm() / theirs.norm()) < 1e-6
