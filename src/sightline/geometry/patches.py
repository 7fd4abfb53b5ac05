"""Pictures cut into patches and put together again, as bytes.

The order is that of the Qwen processors: the patches of one merged token stand together, and the
numbers of a patch are ordered channel, frame, row, column.

Reference: ``patchify`` of transformers 5.23's ``Qwen2VLImageProcessor`` and
``Qwen2VLVideoProcessor``, checked by ``tests/parity/test_lean_pixels.py``.
"""

from __future__ import annotations

import numpy as np

from sightline.geometry.resize import Patching

_CHANNELS = 3


def image_patches(picture: np.ndarray, patching: Patching) -> np.ndarray:
    """Patches of a still picture, once: without the copy that stands for a second frame.

    Args:
        picture: (3, height, width) uint8; both sides divide by the patch and the merge size.
        patching: Patch sizes.

    Returns:
        patches: (num_patches, 3 * patch_size ** 2) uint8.
    """
    return _cut(picture[None], 1, patching)


def video_patches(frames: np.ndarray, patching: Patching) -> np.ndarray:
    """Patches of the frames of a video; a last group short of frames is filled by its last frame.

    Args:
        frames: (num_frames, 3, height, width) uint8.
        patching: Patch sizes.

    Returns:
        patches: (num_patches, 3 * temporal_patch_size * patch_size ** 2) uint8.
    """
    group = patching.temporal_patch_size
    short = -len(frames) % group
    if short:
        frames = np.concatenate([frames, np.repeat(frames[-1:], short, axis=0)])
    return _cut(frames, group, patching)


def joined_patches(
    patches: np.ndarray, grid_thw: tuple[int, int, int], patching: Patching
) -> np.ndarray:
    """The pictures that patches were cut from.

    Args:
        patches: As `image_patches` or `video_patches` makes them; any dtype.
        grid_thw: Their grid, in raw patches.
        patching: Patch sizes.

    Returns:
        frames: (num_frames, height, width, 3), one frame for a still picture.
    """
    t, h, w = grid_thw
    side, merge = patching.patch_size, patching.spatial_merge_size
    group = patches.shape[1] // (_CHANNELS * side * side)
    cut = patches.reshape(
        t, h // merge, w // merge, merge, merge, _CHANNELS, group, side, side
    ).transpose(0, 6, 1, 3, 7, 2, 4, 8, 5)
    return cut.reshape(t * group, h * side, w * side, _CHANNELS)


def _cut(frames: np.ndarray, group: int, patching: Patching) -> np.ndarray:
    side, merge = patching.patch_size, patching.spatial_merge_size
    num_frames, channels, height, width = frames.shape
    # One row of a patch is one element: an eighth of the copies that single bytes would take.
    rows = np.ascontiguousarray(frames).reshape(-1).view(f"V{side}")
    cut = rows.reshape(
        num_frames // group,
        group,
        channels,
        height // side // merge,
        merge,
        side,
        width // side // merge,
        merge,
    ).transpose(0, 3, 6, 4, 7, 2, 1, 5)
    return cut.copy().view(np.uint8).reshape(-1, channels * group * side * side)
