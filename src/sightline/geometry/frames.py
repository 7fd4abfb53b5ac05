"""Which frames of a video are taken, and what time they stand for.

Reference: ``sample_frames`` of transformers 5.23's ``Qwen2VLVideoProcessor`` and
``Qwen3VLVideoProcessor``, ``VideoMetadata.sampled_fps`` and ``Qwen3VLProcessor``'s timestamps,
checked by ``tests/parity/test_geometry_processors.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from sightline.errors import LayoutError


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameSampling:
    """How frames are taken.

    Attributes:
        rule: ``arange_truncated`` (Qwen2-VL, Qwen2.5-VL) or ``linspace_rounded`` (Qwen3-VL).
        fps: Frames taken per second of video.
        min_frames: Lower bound on the number of frames taken.
        max_frames: Upper bound on the number of frames taken.
        temporal_patch_size: Frames per temporal grid.
    """

    rule: Literal["arange_truncated", "linspace_rounded"]
    fps: float
    min_frames: int
    max_frames: int
    temporal_patch_size: int


def sample_frames(total_frames: int, file_fps: float, sampling: FrameSampling) -> list[int]:
    """Indices of the frames that the model sees.

    Args:
        total_frames: Frames in the file.
        file_fps: Frames per second of the file.
        sampling: The rule and its bounds.

    Raises:
        LayoutError: The video is shorter than one temporal grid, or its rate is not positive.

    >>> rule = FrameSampling(rule="arange_truncated", fps=2.0, min_frames=4, max_frames=768,
    ...                      temporal_patch_size=2)
    >>> sample_frames(30, 10.0, rule)
    [0, 5, 10, 15, 20, 25]
    """
    if file_fps <= 0:
        raise LayoutError(f"the video states {file_fps} frames a second; it must be positive.")
    if total_frames < sampling.temporal_patch_size:
        raise LayoutError(
            f"the video has {total_frames} frames, but one temporal grid takes "
            f"{sampling.temporal_patch_size}."
        )
    if sampling.rule == "linspace_rounded":
        wanted = int(total_frames / file_fps * sampling.fps)
        count = min(max(wanted, sampling.min_frames), sampling.max_frames, total_frames)
        return np.linspace(0, total_frames - 1, count).round().astype(int).tolist()
    group = sampling.temporal_patch_size
    most = math.floor(min(sampling.max_frames, total_frames) / group) * group
    wanted_frames = total_frames / file_fps * sampling.fps
    bounded = min(max(wanted_frames, sampling.min_frames), most, total_frames)
    count = math.floor(bounded / group) * group
    # torch's own arange: its float32 steps decide which frame a fractional step lands on.
    return torch.arange(0, total_frames, total_frames / count).int().tolist()


def seconds_per_grid(
    num_sampled: int, total_frames: int, file_fps: float, temporal_patch_size: int
) -> float:
    """Seconds between two temporal grids of the frames taken."""
    sampled_fps = num_sampled / total_frames * file_fps
    return temporal_patch_size / sampled_fps


def grid_timestamps(indices: list[int], file_fps: float, temporal_patch_size: int) -> list[float]:
    """Seconds of every temporal grid: the middle between its first and last frame.

    >>> grid_timestamps([0, 5, 10], 10.0, 2)
    [0.25, 1.0]
    """
    short = -len(indices) % temporal_patch_size
    filled = indices + indices[-1:] * short
    seconds = [index / file_fps for index in filled]
    starts = range(0, len(seconds), temporal_patch_size)
    return [(seconds[i] + seconds[i + temporal_patch_size - 1]) / 2 for i in starts]
