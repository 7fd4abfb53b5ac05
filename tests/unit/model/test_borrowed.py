"""What ZeRO 3 has to be told, found by taking from each module all weights but its own."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import nn

from sightline.model import (
    Supervised,
    borrowed_parameters,
    load_weights,
    open_checkpoint,
    return_losses,
    take_raw_pixels,
)

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


@pytest.fixture(params=FAMILIES)
def checkpoint(request, tiny_folder) -> Any:
    return open_checkpoint(str(tiny_folder(request.param)))


@pytest.fixture
def model(checkpoint) -> Any:
    return _made(checkpoint)


def _made(checkpoint: Any) -> Any:
    plain = load_weights(checkpoint.source, dtype=torch.float32)
    take_raw_pixels(plain, checkpoint.family, checkpoint.recipes)
    return return_losses(plain).eval()


def _loss(model: Any, checkpoint: Any) -> float:
    """The loss of a row with the smallest picture there is: one merged patch."""
    patching = checkpoint.preprocessing.image_patching
    merge = patching.spatial_merge_size
    pixels = torch.full((merge * merge, 3 * patching.patch_size**2), 128.0)
    asked = Supervised(torch.tensor([0, 1]), torch.tensor([7, 8]))
    with torch.no_grad():
        loss = model(
            input_ids=torch.tensor([[10, checkpoint.position_rule.image_token_id, 10]]),
            position_ids=torch.arange(3).expand(4, 1, -1),
            pixel_values=pixels,
            image_grid_thw=torch.tensor([[1, merge, merge]]),
            supervised=asked,
        )
    return float(loss)


def _lend(model: nn.Module, told: Iterable[tuple[nn.Module, nn.Parameter]]) -> None:
    """Let weights be numbers only while their module, or one that is told of them, is called."""
    borrowed = list(told)
    values = {one: one.detach().clone() for one in model.parameters()}
    uses = dict.fromkeys(values, 0)

    def needed(module: nn.Module) -> list[nn.Parameter]:
        return [*module.parameters(recurse=False), *(one for by, one in borrowed if by is module)]

    def before(module: nn.Module, _: Any) -> None:
        for one in needed(module):
            uses[one] += 1
            one.data.copy_(values[one])

    def after(module: nn.Module, *_: Any) -> None:
        for one in needed(module):
            uses[one] -= 1
            if not uses[one]:
                one.data.fill_(torch.nan)

    for one in values:
        one.data.fill_(torch.nan)
    for module in model.modules():
        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)


def test_what_is_told_is_all_that_is_borrowed(model, checkpoint) -> None:
    expected = _loss(model, checkpoint)
    told = list(borrowed_parameters(model))
    _lend(model, told)
    assert _loss(model, checkpoint) == expected


def test_without_any_one_of_them_the_loss_is_no_number(model, checkpoint) -> None:
    told = list(borrowed_parameters(model))
    assert told
    for missing in range(len(told)):
        again = _made(checkpoint)
        rest = list(borrowed_parameters(again))
        del rest[missing]
        _lend(again, rest)
        assert math.isnan(_loss(again, checkpoint))


def test_a_plain_model_borrows_nothing(checkpoint) -> None:
    plain = load_weights(checkpoint.source, dtype=torch.float32)
    assert list(borrowed_parameters(plain)) == []
