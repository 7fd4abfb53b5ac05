"""Positions of small layouts, by hand."""

from __future__ import annotations

import pytest

from sightline.errors import LayoutError
from sightline.families import FAMILIES
from sightline.positions import Layout, build_position_ids, text_span, vision_span

QWEN2, QWEN25, QWEN3 = (FAMILIES[key].rope for key in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl"))


def _video(grid: tuple[int, int, int], seconds: float | None = None):
    return vision_span("video", grid, spatial_merge_size=2, seconds_per_grid=seconds)


def test_text_counts_on_all_axes() -> None:
    placed = build_position_ids(Layout(spans=(text_span(4),)), QWEN2)
    assert placed.position_ids.tolist() == [[0, 1, 2, 3]] * 3
    assert placed.rope_delta == 0


def test_text_after_a_long_video_starts_after_its_last_grid() -> None:
    layout = Layout(spans=(text_span(1), _video((5, 2, 2)), text_span(2)))
    placed = build_position_ids(layout, QWEN2)
    assert placed.position_ids[0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert placed.position_ids[1].tolist() == [0, 1, 1, 1, 1, 1, 6, 7]
    assert placed.rope_delta == 0


def test_seconds_scale_the_temporal_axis_and_are_truncated() -> None:
    layout = Layout(spans=(text_span(1), _video((3, 2, 2), 0.75), text_span(1)))
    placed = build_position_ids(layout, QWEN25, tokens_per_second=2.0)
    # 0, 1.5 and 3.0 positions, truncated, after one token of text.
    assert placed.position_ids[0].tolist() == [0, 1, 2, 4, 5]


def test_float32_decides_where_float64_would_round_the_other_way() -> None:
    """At 2.6 frames a second grid 39 stands at 60 in float32 and at 59 in float64."""
    seconds = 2 / 2.6
    placed = build_position_ids(
        Layout(spans=(_video((40, 2, 2), seconds),)), QWEN25, tokens_per_second=2.0
    )
    assert placed.position_ids[0, 39] == 60
    assert int(39 * seconds * 2.0) == 59


def test_an_image_is_never_scaled_in_time() -> None:
    image = vision_span("image", (1, 4, 2), spatial_merge_size=2)
    placed = build_position_ids(Layout(spans=(image, text_span(1))), QWEN25, tokens_per_second=2.0)
    assert placed.position_ids.tolist() == [[0, 0, 2], [0, 1, 2], [0, 0, 2]]


def test_a_video_without_seconds_is_refused() -> None:
    with pytest.raises(LayoutError, match="no second_per_grid_ts"):
        build_position_ids(Layout(spans=(_video((3, 2, 2)),)), QWEN25, tokens_per_second=2.0)


def test_a_span_of_several_grids_is_refused_where_every_frame_is_a_span() -> None:
    with pytest.raises(LayoutError, match="holds 3 temporal grids"):
        build_position_ids(Layout(spans=(_video((3, 2, 2)),)), QWEN3)


def test_a_grid_that_does_not_divide_is_refused_with_both_numbers() -> None:
    with pytest.raises(LayoutError, match=r"height 3 and width 4 .* spatial_merge_size 2"):
        vision_span("image", (1, 3, 4), spatial_merge_size=2)
