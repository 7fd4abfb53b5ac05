"""From token ids to positions: padding, several samples, and what is refused."""

from __future__ import annotations

import pytest
import torch

from sightline.errors import LayoutError
from sightline.families import FAMILIES
from sightline.positions import PositionRule, layout_of_ids, place_batch

IMAGE, VIDEO = 90, 91


def _rule(family: str) -> PositionRule:
    return PositionRule(
        rope=FAMILIES[family].rope,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        spatial_merge_size=2,
        tokens_per_second=2.0 if family == "qwen2_5_vl" else None,
    )


def test_padding_on_either_side_changes_nothing() -> None:
    rule = _rule("qwen2_vl")
    grid = torch.tensor([[1, 4, 4]])
    ids = torch.tensor([[1, 2, IMAGE, IMAGE, IMAGE, IMAGE, 3]])
    plain = place_batch(ids, rule, image_grid_thw=grid)
    for side in ("left", "right"):
        pad = torch.zeros(1, 2, dtype=torch.long)
        wide = torch.cat([pad, ids] if side == "left" else [ids, pad], dim=1)
        kept = slice(2, None) if side == "left" else slice(0, ids.shape[1])
        mask = torch.zeros_like(wide)
        mask[:, kept] = 1
        padded = place_batch(wide, rule, attention_mask=mask, image_grid_thw=grid)
        assert torch.equal(padded.model_position_ids[..., kept], plain.model_position_ids)
        assert torch.equal(padded.rope_deltas, plain.rope_deltas)
    assert plain.model_position_ids[:, 0].tolist() == [
        [0, 1, 2, 3, 4, 5, 6],
        [0, 1, 2, 2, 2, 2, 4],
        [0, 1, 2, 2, 3, 3, 4],
        [0, 1, 2, 3, 2, 3, 4],
    ]
    assert plain.rope_deltas.tolist() == [[-2]]


def test_rows_take_their_own_grids() -> None:
    rule = _rule("qwen2_vl")
    ids = torch.tensor([[1, IMAGE, 2, 3], [1, 2, IMAGE, IMAGE]])
    placed = place_batch(ids, rule, image_grid_thw=torch.tensor([[1, 2, 2], [1, 2, 4]]))
    assert placed.model_position_ids[3].tolist() == [[0, 1, 2, 3], [0, 1, 2, 3]]
    assert placed.rope_deltas.tolist() == [[0], [0]]


def test_grids_of_another_row_are_not_borrowed() -> None:
    """Sums over the batch agree; per row they do not. This is how a cut goes unnoticed."""
    rule = _rule("qwen2_vl")
    ids = torch.tensor([[1, IMAGE, 2, 3], [1, IMAGE, IMAGE, IMAGE]])
    with pytest.raises(LayoutError, match="row 0: token 1: 1 image placeholders, but the grid"):
        place_batch(ids, rule, image_grid_thw=torch.tensor([[1, 2, 4], [1, 2, 4]]))


def test_frames_are_spans_where_the_family_wants_that() -> None:
    rule = _rule("qwen3_vl")
    ids = torch.tensor([[1, VIDEO, 2, VIDEO, 3]])
    placed = place_batch(ids, rule, video_grid_thw=torch.tensor([[2, 2, 2]]))
    assert placed.model_position_ids[1, 0].tolist() == [0, 1, 2, 3, 4]


def test_adjacent_images_share_a_run() -> None:
    layout = layout_of_ids(
        [IMAGE, IMAGE, IMAGE], _rule("qwen2_vl"), image_grid_thw=[(1, 2, 2), (1, 2, 4)]
    )
    assert [span.num_tokens for span in layout.spans] == [1, 2]


@pytest.mark.parametrize(
    ("ids", "grids", "message"),
    [
        ([1, IMAGE, IMAGE], [(1, 2, 2)], "1 image placeholders have no grid"),
        ([1, IMAGE], [(1, 2, 2), (1, 2, 2)], "1 more image grids"),
        ([1, 2], [(1, 2, 2)], "1 more image grids"),
        ([1, IMAGE], [(1, 2, 4)], "1 image placeholders, but the grid"),
    ],
)
def test_placeholders_that_do_not_match_are_refused(ids, grids, message) -> None:
    with pytest.raises(LayoutError, match=message):
        layout_of_ids(ids, _rule("qwen2_vl"), image_grid_thw=grids)


def test_missing_seconds_are_refused_where_time_is_scaled() -> None:
    ids = torch.tensor([[1, VIDEO, VIDEO]])
    with pytest.raises(LayoutError, match="1 videos but no second_per_grid_ts"):
        place_batch(ids, _rule("qwen2_5_vl"), video_grid_thw=torch.tensor([[2, 2, 2]]))


def test_a_wrong_number_of_seconds_is_refused() -> None:
    ids = torch.tensor([[1, VIDEO, VIDEO]])
    with pytest.raises(LayoutError, match="1 videos but 2 values"):
        place_batch(
            ids,
            _rule("qwen2_5_vl"),
            video_grid_thw=torch.tensor([[2, 2, 2]]),
            second_per_grid_ts=[1.0, 1.0],
        )
