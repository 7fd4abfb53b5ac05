"""Sizes and grids, by hand."""

from __future__ import annotations

import pytest

from sightline.errors import LayoutError
from sightline.geometry import (
    Patching,
    PixelBudget,
    image_grid_thw,
    resize_image,
    resize_video,
    video_grid_thw,
)

QWEN2 = Patching(patch_size=14, temporal_patch_size=2, spatial_merge_size=2)
QWEN3 = Patching(patch_size=16, temporal_patch_size=2, spatial_merge_size=2)
WIDE = PixelBudget(min_pixels=3136, max_pixels=12845056)


def test_sides_are_rounded_to_the_factor_and_half_to_even() -> None:
    assert resize_image(100, 196, QWEN2, WIDE) == (112, 196)
    assert resize_image(42, 700, QWEN2, WIDE) == (56, 700)  # 1.5 patches round to 2
    assert resize_image(70, 700, QWEN2, WIDE) == (56, 700)  # 2.5 patches round to 2 as well


def test_large_pictures_shrink_and_small_ones_grow() -> None:
    small = PixelBudget(min_pixels=3136, max_pixels=50176)
    assert resize_image(1000, 1000, QWEN2, small) == (224, 224)
    assert resize_image(28, 28, QWEN2, PixelBudget(min_pixels=12544, max_pixels=50176)) == (
        112,
        112,
    )


def test_a_grid_counts_raw_patches() -> None:
    assert image_grid_thw((112, 196), QWEN2) == (1, 8, 14)
    assert video_grid_thw(5, (64, 96), QWEN3) == (3, 4, 6)


def test_an_extreme_aspect_ratio_is_refused() -> None:
    with pytest.raises(LayoutError, match="10 x 2001 pixels has an aspect ratio over 200"):
        resize_image(10, 2001, QWEN2, WIDE)
    assert resize_image(10, 2000, QWEN2, WIDE) == (28, 812)


def test_a_whole_video_shares_one_budget() -> None:
    budget = PixelBudget(min_pixels=4096, max_pixels=10 * 64 * 64)
    assert resize_video(10, 64, 64, QWEN3, budget, scope="whole_video") == (64, 64)
    assert resize_video(40, 64, 64, QWEN3, budget, scope="whole_video") == (32, 32)
    assert resize_video(40, 64, 64, QWEN3, budget, scope="per_frame") == (64, 64)


def test_fewer_frames_than_a_grid_takes_are_refused() -> None:
    with pytest.raises(LayoutError, match="1 frames, but one temporal grid takes 2"):
        resize_video(1, 64, 64, QWEN3, WIDE, scope="whole_video")
