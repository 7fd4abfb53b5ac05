"""Pixels to patches: the size a picture is resized to, and its grid.

Reference: ``smart_resize`` of transformers 5.23, ``image_processing_qwen2_vl.py`` and
``video_processing_qwen3_vl.py``, checked by ``tests/parity/test_geometry_processors.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from sightline.errors import LayoutError

MAX_ASPECT_RATIO = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelBudget:
    """Limits on the resized picture.

    Attributes:
        min_pixels: Smaller pictures are enlarged to this many pixels.
        max_pixels: Larger pictures are reduced to this many pixels.
    """

    min_pixels: int
    max_pixels: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Patching:
    """How pixels become patches and patches become tokens.

    Attributes:
        patch_size: Pixels per side of a patch.
        temporal_patch_size: Frames per temporal grid.
        spatial_merge_size: Patches per side that become one token.
    """

    patch_size: int
    temporal_patch_size: int
    spatial_merge_size: int

    @property
    def factor_pixels(self) -> int:
        """Sides of a resized picture divide by this."""
        return self.patch_size * self.spatial_merge_size


def resize_image(
    height: int, width: int, patching: Patching, budget: PixelBudget
) -> tuple[int, int]:
    """Height and width in pixels that a picture is resized to.

    Args:
        height: Height of the picture in pixels, as shown.
        width: Width of the picture in pixels, as shown.
        patching: Patch sizes; both sides of the result divide by their factor.
        budget: Limits on the number of pixels.

    Raises:
        LayoutError: The sides differ by more than 200 to 1.

    >>> budget = PixelBudget(min_pixels=3136, max_pixels=1003520)
    >>> patching = Patching(patch_size=14, temporal_patch_size=2, spatial_merge_size=2)
    >>> resize_image(1080, 1920, patching, budget)
    (728, 1316)
    """
    _refuse_extreme_aspect(height, width)
    factor = patching.factor_pixels
    new_height, new_width = _to_factor(height, factor), _to_factor(width, factor)
    if new_height * new_width > budget.max_pixels:
        return _shrink(height, width, factor, math.sqrt(height * width / budget.max_pixels))
    if new_height * new_width < budget.min_pixels:
        return _grow(height, width, factor, math.sqrt(budget.min_pixels / (height * width)))
    return new_height, new_width


def resize_video(
    num_frames: int,
    height: int,
    width: int,
    patching: Patching,
    budget: PixelBudget,
    *,
    scope: Literal["per_frame", "whole_video"],
) -> tuple[int, int]:
    """Height and width in pixels that the frames of a video are resized to.

    Args:
        num_frames: Frames taken from the video.
        height: Height of a frame in pixels.
        width: Width of a frame in pixels.
        patching: Patch sizes.
        budget: Limits on the number of pixels.
        scope: Whether the limits hold for one frame or for all frames together.

    Raises:
        LayoutError: Fewer frames than one temporal grid takes, or an extreme aspect ratio.
    """
    if num_frames < patching.temporal_patch_size:
        raise LayoutError(
            f"{num_frames} frames, but one temporal grid takes {patching.temporal_patch_size}."
        )
    if scope == "per_frame":
        return resize_image(height, width, patching, budget)
    factor = patching.factor_pixels
    if height < factor or width < factor:
        scale = max(factor / height, factor / width)
        height, width = int(height * scale), int(width * scale)
    _refuse_extreme_aspect(height, width)
    new_height, new_width = _to_factor(height, factor), _to_factor(width, factor)
    whole_frames = round(num_frames / patching.temporal_patch_size) * patching.temporal_patch_size
    total_pixels = whole_frames * new_height * new_width
    source_pixels = num_frames * height * width
    if total_pixels > budget.max_pixels:
        return _shrink(height, width, factor, math.sqrt(source_pixels / budget.max_pixels))
    if total_pixels < budget.min_pixels:
        return _grow(height, width, factor, math.sqrt(budget.min_pixels / source_pixels))
    return new_height, new_width


def image_grid_thw(size: tuple[int, int], patching: Patching) -> tuple[int, int, int]:
    """Grid of a resized picture in raw patches, before merging."""
    return 1, size[0] // patching.patch_size, size[1] // patching.patch_size


def video_grid_thw(
    num_frames: int, size: tuple[int, int], patching: Patching
) -> tuple[int, int, int]:
    """Grid of a resized video; a last group short of frames is filled by its last frame."""
    num_grids = -(-num_frames // patching.temporal_patch_size)
    return num_grids, size[0] // patching.patch_size, size[1] // patching.patch_size


def _to_factor(side: int, factor: int) -> int:
    # Python's rounding to even, as in the processors: 42 / 28 = 1.5 becomes 2, 70 / 28 becomes 2.
    return round(side / factor) * factor


def _shrink(height: int, width: int, factor: int, ratio: float) -> tuple[int, int]:
    return (
        max(factor, math.floor(height / ratio / factor) * factor),
        max(factor, math.floor(width / ratio / factor) * factor),
    )


def _grow(height: int, width: int, factor: int, ratio: float) -> tuple[int, int]:
    return (
        math.ceil(height * ratio / factor) * factor,
        math.ceil(width * ratio / factor) * factor,
    )


def _refuse_extreme_aspect(height: int, width: int) -> None:
    if max(height, width) > MAX_ASPECT_RATIO * min(height, width):
        raise LayoutError(
            f"a picture of {height} x {width} pixels has an aspect ratio over "
            f"{MAX_ASPECT_RATIO}: crop or pad it."
        )
