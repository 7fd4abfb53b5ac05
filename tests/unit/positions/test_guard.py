"""Batches that would run with other positions are refused, with the sample's file and line."""

from __future__ import annotations

import pytest
import torch

from sightline.errors import LayoutError
from sightline.families import FAMILIES
from sightline.positions import PositionRule, place_batch, refuse_misplaced

IMAGE, VIDEO = 90, 91
RULE = PositionRule(
    rope=FAMILIES["qwen2_5_vl"].rope,
    image_token_id=IMAGE,
    video_token_id=VIDEO,
    spatial_merge_size=2,
    tokens_per_second=2.0,
)
IDS = torch.tensor([[1, IMAGE, IMAGE, 2, 3], [4, 5, IMAGE, 6, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])
GRIDS = torch.tensor([[1, 4, 2], [1, 2, 2]])
BATCH = {"attention_mask": MASK, "image_grid_thw": GRIDS}
NAMES = {"samples": ["a.jsonl:7", "a.jsonl:9"], "num_images": [1, 1], "num_videos": [0, 0]}


def _placed() -> torch.Tensor:
    return place_batch(IDS, RULE, **BATCH).model_position_ids


def test_the_engines_own_positions_pass() -> None:
    refuse_misplaced(IDS, _placed(), RULE, **BATCH, **NAMES)
    refuse_misplaced(IDS, _placed()[1:], RULE, **BATCH)


def _refusal(positions, **changes) -> str:
    with pytest.raises(LayoutError) as caught:
        refuse_misplaced(IDS, positions, RULE, **(BATCH | NAMES | changes))
    return str(caught.value)


def test_one_dimensional_positions() -> None:
    flat = torch.arange(5).expand(4, 2, 5)
    assert "a.jsonl:7: 1-D positions on 2 vision tokens: token 2 stands at (2, 2, 2) and belongs " \
        "at (1, 2, 1)" in _refusal(flat)  # fmt: skip


def test_two_dimensional_or_missing_positions() -> None:
    assert "position_ids of shape (2, 5)" in _refusal(torch.arange(5).expand(2, 5))
    assert "position_ids of shape (2, 2, 5)" in _refusal(torch.zeros(2, 2, 5))
    assert "take (3, 2, 5)" in _refusal(torch.zeros(3, 2, 4))
    assert "without position_ids" in _refusal(None)


def test_missing_grids() -> None:
    message = _refusal(_placed(), image_grid_thw=None)
    assert message.startswith("a.jsonl:7: token 1: 2 image placeholders have no grid")


def test_missing_seconds() -> None:
    ids = torch.tensor([[1, VIDEO, VIDEO, 2]])
    with pytest.raises(LayoutError, match="1 videos but no second_per_grid_ts"):
        refuse_misplaced(ids, torch.zeros(3, 1, 4), RULE, video_grid_thw=torch.tensor([[2, 2, 2]]))


def test_grids_are_held_against_each_sample_and_not_the_batch() -> None:
    """Three placeholders and three patches in sum: right for the batch, wrong for each."""
    swapped = GRIDS.flip(0)
    message = _refusal(_placed(), image_grid_thw=swapped)
    assert message.startswith("a.jsonl:7: token 2: 1 image placeholders have no grid")
    ids = torch.tensor([[1, IMAGE, IMAGE, 2], [4, 5, 6, 7]])
    grids = torch.tensor([[1, 2, 2], [1, 2, 2]])
    placed = place_batch(ids, RULE, image_grid_thw=grids).model_position_ids
    # As one batch nothing is left over; but the second picture belongs to the second sample.
    refuse_misplaced(ids, placed, RULE, image_grid_thw=grids)
    with pytest.raises(LayoutError, match=r"a\.jsonl:7: token 2: 1 image placeholders"):
        refuse_misplaced(ids, placed, RULE, image_grid_thw=grids, **NAMES)


def test_a_grid_whose_height_and_width_changed_places() -> None:
    """As many placeholders, as many patches: only where they stand is another place."""
    turned = GRIDS[:, [0, 2, 1]]
    assert turned.tolist() != GRIDS.tolist()
    assert "stands at (1, 2, 1) (t, h, w) and belongs at (1, 1, 2)" in _refusal(
        _placed(), image_grid_thw=turned
    )


def test_a_grid_that_no_placeholder_stands_for() -> None:
    more = torch.cat([GRIDS, torch.tensor([[1, 2, 2]])])
    assert _refusal(_placed(), image_grid_thw=more, num_images=[1, 2]).startswith(
        "a.jsonl:9: 1 more image grids than the placeholders"
    )


def test_packed_rows_need_the_text_row() -> None:
    ids = torch.tensor([[1, IMAGE, 2, 3, 4]])
    grids = torch.tensor([[1, 2, 2]])
    packed = place_batch(ids, RULE, image_grid_thw=grids, cu_seqlens=[0, 3, 5]).model_position_ids
    assert packed[0].tolist() == [[0, 1, 2, 0, 1]]
    refuse_misplaced(ids, packed, RULE, image_grid_thw=grids)
    with pytest.raises(LayoutError, match="row 0: positions start again at token 3, without"):
        refuse_misplaced(ids, packed[1:], RULE, image_grid_thw=grids)
    broken = packed.clone()
    broken[0, 0, -1] = 5
    with pytest.raises(LayoutError, match="text row does not count"):
        refuse_misplaced(ids, broken, RULE, image_grid_thw=grids)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [([0, 3], "do not rise from 0 to 5"), ([0, 3, 3, 5], "do not rise"), ([1, 5], "do not rise")],
)
def test_bounds_of_a_packed_row(bounds: list[int], message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        place_batch(torch.ones(1, 5, dtype=torch.long), RULE, cu_seqlens=bounds)
    with pytest.raises(LayoutError, match="one row without padding"):
        place_batch(torch.ones(2, 5, dtype=torch.long), RULE, cu_seqlens=[0, 5])
