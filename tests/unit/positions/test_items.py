"""The interface that others program against."""

from __future__ import annotations

import numpy as np
import pytest

from sightline.errors import LayoutError
from sightline.positions import Image, Text, Video, mrope_positions


def test_the_example_of_the_documentation() -> None:
    items = [
        Text(8), Image((1, 4, 6)), Text(2), Video((3, 4, 6), second_per_grid=0.5), Text(3),
    ]  # fmt: skip
    p = mrope_positions(items, family="qwen2_5_vl")
    assert p.position_ids.shape == (3, 8 + 6 + 2 + 18 + 3)
    assert p.position_ids.dtype == np.int64
    assert p.position_ids[0, 16:34:6].tolist() == [13, 14, 15]  # two positions a second
    assert p.position_ids[:, -3:].tolist() == [[16, 17, 18]] * 3
    assert p.rope_delta == 19 - 37
    assert isinstance(p.rope_delta, int)


def test_qwen3_takes_a_video_whole_or_by_its_grids() -> None:
    whole = [Text(3), Video((2, 4, 4), timestamp_tokens=[2, 3]), Text(1)]
    parts = [Text(5), Video((1, 4, 4)), Text(3), Video((1, 4, 4)), Text(1)]
    one, other = (mrope_positions(items, family="qwen3_vl") for items in (whole, parts))
    assert one.position_ids.tolist() == other.position_ids.tolist()
    assert one.position_ids[:, 5].tolist() == [5, 5, 5]
    assert one.position_ids[:, 8].tolist() == [5, 6, 6]
    bare = mrope_positions([Video((2, 4, 4))], family="qwen3_vl").position_ids
    assert bare[0].tolist() == [0, 0, 0, 0, 2, 2, 2, 2]


def test_adjacent_images_and_no_text_at_all() -> None:
    p = mrope_positions([Image((1, 2, 4)), Image((1, 4, 2))], family="qwen2_vl")
    assert p.position_ids.tolist() == [[0, 0, 2, 2], [0, 0, 2, 3], [0, 1, 2, 2]]
    assert p.rope_delta == 0


def test_the_numbers_of_a_model_of_ones_own() -> None:
    p = mrope_positions(
        [Video((2, 2, 2), second_per_grid=1.0)],
        family="qwen2_5_vl",
        spatial_merge_size=1,
        tokens_per_second=5,
    )
    assert p.position_ids[0].tolist() == [0] * 4 + [5] * 4
    assert p.position_ids[2].tolist() == [0, 1] * 4


def test_ernie_merges_two_grids_of_a_video() -> None:
    p = mrope_positions([Video((6, 2, 2)), Text(1)], family="ernie4_5_vl_moe")
    assert p.position_ids[0].tolist() == [0, 1, 2, 3]


def test_float32_and_truncation() -> None:
    """As in the published code: float64 would put some of these grids one further."""
    seconds, rate = 1 / 3, 3.0
    scaled = np.arange(400, dtype=np.float32) * np.float32(seconds) * np.float32(rate)
    doubled = np.arange(400, dtype=np.float64) * seconds * rate
    assert (scaled.astype(np.int64) != doubled.astype(np.int64)).any()
    video = Video((400, 2, 2), second_per_grid=seconds)
    p = mrope_positions([video], family="qwen2_5_vl", tokens_per_second=rate)
    assert p.position_ids[0].tolist() == scaled.astype(np.int64).tolist()


@pytest.mark.parametrize(
    ("items", "family", "message"),
    [
        ([Text(1)], "qwen2_5_v", "family 'qwen2_5_v' is not known.*Did you mean qwen2_5_vl"),
        ([Video((2, 2, 2))], "qwen2_5_vl", "2 temporal grids has no second_per_grid_ts"),
        ([Video((2, 2, 2), second_per_grid=0.0)], "qwen2_5_vl", "0.0 seconds per grid"),
        ([Video((2, 2, 2))], "paddleocr_vl", "PaddleOCR-VL takes no videos"),
        ([Video((3, 2, 2))], "ernie4_5_vl_moe", "3 temporal grids must divide by"),
        ([Image((1, 3, 2))], "qwen2_vl", r"\(1, 3, 2\): height 3 and width 2"),
        ([Video((2, 2, 2), timestamp_tokens=2)], "qwen2_vl", "writes no timestamps"),
        ([Video((2, 2, 2), timestamp_tokens=[1])], "qwen3_vl", "2 temporal grids with 1 time"),
        ([Text(-1)], "qwen2_vl", "-1 tokens"),
        ([], "qwen2_vl", "without a token"),
        ([Text(3_000_000)], "qwen2_vl", "takes 3000000 positions, over 2097151"),
        ([Video((2, 2, 2), second_per_grid=3e6)], "qwen2_5_vl", "ends at position 6000000"),
        ([Video((2, 2, 2), second_per_grid=0.72)], "qwen3_omni_moe", "stands at 9.36 positions"),
    ],
)
def test_what_cannot_be_placed_is_refused(items, family: str, message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        mrope_positions(items, family=family)
