"""Attention by segments beside one call a segment, in the function and in both towers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional

from sightline.families import FAMILIES as RECORDS
from sightline.model import (
    Segments,
    attend_by_segments,
    load_weights,
    packed_row,
    segments,
    unpackable,
)

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


@pytest.mark.parametrize("lengths", [(7,), (3, 4), (4, 4, 4, 1, 1, 5), (1,) * 6, (2, 5, 2, 2)])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("num_keys", [4, 2])
def test_segments_attend_alone(lengths: tuple[int, ...], causal: bool, num_keys: int) -> None:
    torch.manual_seed(0)
    borders = torch.tensor([0, *lengths]).cumsum(0)
    query = torch.randn(1, 4, sum(lengths), 8, dtype=torch.float64)
    key, value = torch.randn(2, 1, num_keys, sum(lengths), 8, dtype=torch.float64)
    given = {"causal": causal, "dropout": 0.0, "scale": 0.3}
    found = segments._attend(query, key, value, Segments.of(borders), **given)
    rows = []
    for start, stop in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
        parts = [tensor[:, :, start:stop] for tensor in (query, key, value)]
        parts[1:] = [part.repeat_interleave(4 // num_keys, dim=1) for part in parts[1:]]
        rows.append(functional.scaled_dot_product_attention(*parts, is_causal=causal, scale=0.3))
    torch.testing.assert_close(found, torch.cat(rows, dim=2).transpose(1, 2))


def test_empty_segments_are_none() -> None:
    read = Segments.of(torch.tensor([0, 3, 3, 5]))
    assert read.lengths == (3, 2)
    assert read.longest == 3
    assert read.borders.dtype == torch.int32


def test_layers_that_read_across_borders_are_not_packed() -> None:
    def config(*layers: str) -> Any:
        return SimpleNamespace(text_config=SimpleNamespace(layer_types=list(layers)))

    assert unpackable(config("full_attention", "full_attention")) is None
    for other in ("linear_attention", "sliding_attention"):
        assert other in (unpackable(config("full_attention", other)) or "")


@pytest.fixture(params=FAMILIES)
def loaded(request, tiny_folder) -> Any:
    folder = str(tiny_folder(request.param))
    return load_weights(folder, dtype=torch.float32), RECORDS[request.param]


def _vision(model: Any, family: Any) -> torch.Tensor:
    torch.manual_seed(0)
    grids = torch.tensor([[1, 4, 4], [1, 20, 6], [2, 4, 8]])
    patch = model.config.vision_config.patch_size**2 * 6
    pixels = torch.randn(int(grids.prod(dim=1).sum()), patch)
    made = model.get_submodule(family.modules.vision)(pixels, grid_thw=grids).pooler_output
    return made if torch.is_tensor(made) else torch.cat(made)


@torch.no_grad()
def test_both_towers_compute_what_they_did(loaded) -> None:
    model, family = loaded
    ids, place = torch.randint(10, 300, (1, 9)), torch.arange(9).expand(4, 1, 9)
    before = _vision(model, family), model(input_ids=ids, position_ids=place).logits
    attend_by_segments(model, family)
    after = _vision(model, family), model(input_ids=ids, position_ids=place).logits
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    # Two rows padded on the left, as generate has them: the mask is kept to.
    mask = torch.ones(2, 9, dtype=torch.long)
    mask[1, :4] = 0
    shifted = torch.stack([torch.arange(9), (torch.arange(9) - 4).clamp(min=0)]).expand(3, 2, 9)
    row = model(input_ids=ids.expand(2, 9), position_ids=shifted, attention_mask=mask).logits[1, 4:]
    alone = model(input_ids=ids[:, 4:], position_ids=place[:, :, :5]).logits[0]
    torch.testing.assert_close(row, alone, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_without_segments_a_packed_row_leaks(loaded) -> None:
    """The trap itself: 3-row positions that start again, and attention that does not see it."""
    model, family = loaded
    attend_by_segments(model, family)
    ids = torch.randint(10, 300, (1, 12))
    place = torch.cat([torch.arange(5), torch.arange(7)]).expand(4, 1, 12)
    alone = model(input_ids=ids[:, 5:], position_ids=place[:, :, 5:], use_cache=False).logits
    with packed_row(Segments.of(torch.tensor([0, 5, 12]))):
        row = model(input_ids=ids, position_ids=place, use_cache=False).logits[:, 5:]
    torch.testing.assert_close(row, alone, rtol=1e-4, atol=1e-4)
    leaks = model(input_ids=ids, position_ids=place[1:], use_cache=False).logits[:, 5:]
    assert (leaks - alone).abs().max() > 0.5


def test_the_saved_configuration_says_nothing_of_it(loaded, tmp_path) -> None:
    model, family = loaded
    attend_by_segments(model, family)
    assert model.config.text_config._attn_implementation == segments.LANGUAGE
    model.config.save_pretrained(tmp_path)
    saved = (tmp_path / "config.json").read_text(encoding="utf-8")
    assert segments.LANGUAGE not in saved
    assert segments.VISION not in saved
