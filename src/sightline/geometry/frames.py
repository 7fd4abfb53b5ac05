"""Which frames of a video are taken, and what time they stand for.

Times are whole ticks of a clock. In a file of constant rate a tick is a frame, which is how
transformers counts. Where the rate varies, a tick is the file's own unit of time: real times are
then as exact as the file, and transformers makes the same seconds of them with the same division.

Reference: ``sample_frames`` of transformers 5.23's ``Qwen2VLVideoProcessor`` and
``Qwen3VLVideoProcessor``, ``VideoMetadata.sampled_fps`` and ``Qwen3VLProcessor``'s timestamps,
checked by ``tests/parity/test_geometry_processors.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from sightline.errors import LayoutError

# Microseconds: finer than any clock that a frame is given with.
GIVEN_TICKS_PER_SECOND = 1_000_000.0


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameSampling:
    """How frames are taken.

    Attributes:
        rule: ``arange_truncated`` (Qwen2-VL, Qwen2.5-VL) or ``linspace_rounded`` (Qwen3-VL).
        fps: Frames taken per second of video.
        min_frames: Lower bound on the number of frames taken.
        max_frames: Upper bound on the number of frames taken.
        temporal_patch_size: Frames per temporal grid.
        num_frames: Frames taken of every video, whatever its length; None: ``fps`` decides.
    """

    rule: Literal["arange_truncated", "linspace_rounded"]
    fps: float
    min_frames: int
    max_frames: int
    temporal_patch_size: int
    num_frames: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameTimes:
    """When each frame of a video is shown, where that does not follow from its rate.

    Attributes:
        ticks: Time of every frame, counted from the first one, ascending.
        num_ticks: How long all of them are shown.
        ticks_per_second: The clock.
    """

    ticks: tuple[int, ...]
    num_ticks: int
    ticks_per_second: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TakenFrames:
    """The frames that a model sees, and their times.

    Attributes:
        indices: Which frames of the video, from 0; one may come more than once.
        ticks: When each is shown.
        num_ticks: Length of the whole video.
        ticks_per_second: The clock: frames a second where a tick is a frame.
    """

    indices: tuple[int, ...]
    ticks: tuple[int, ...]
    num_ticks: int
    ticks_per_second: float

    def seconds_per_grid(self, temporal_patch_size: int) -> float:
        """Seconds between two temporal grids, on average."""
        return seconds_per_grid(
            len(self.ticks), self.num_ticks, self.ticks_per_second, temporal_patch_size
        )

    def timestamps(self, temporal_patch_size: int) -> list[float]:
        """Seconds of every temporal grid: the middle between its first and last frame."""
        return grid_timestamps(list(self.ticks), self.ticks_per_second, temporal_patch_size)


def take_frames(
    total_frames: int, file_fps: float, sampling: FrameSampling, times: FrameTimes | None = None
) -> TakenFrames:
    """The frames of a file that the model sees, with their times.

    Where the rate varies, the family's rule is applied to a video of as many frames that lasts as
    long and has a constant rate, and each instant that it asks for is answered by the frame that is
    shown then. A frame that is shown at several of them is taken for each: the first time with its
    own time, then with the instant itself, at which it is still to be seen.

    Args:
        total_frames: Frames in the file.
        file_fps: Average frames per second of the file.
        sampling: The rule and its bounds.
        times: The real times of the frames; None: frame i is shown at ``i / file_fps``.

    Raises:
        LayoutError: As `sample_frames`.

    >>> rule = FrameSampling(rule="arange_truncated", fps=1.0, min_frames=2, max_frames=768,
    ...                      temporal_patch_size=2)
    >>> shown = FrameTimes(ticks=(0, 10, 20, 30, 200, 390), num_ticks=400, ticks_per_second=100.0)
    >>> taken = take_frames(6, 1.5, rule, shown)
    >>> taken.indices, taken.ticks
    ((0, 3, 4, 4), (0, 30, 200, 266))
    """
    if times is None:
        indices = tuple(sample_frames(total_frames, file_fps, sampling))
        return TakenFrames(
            indices=indices, ticks=indices, num_ticks=total_frames, ticks_per_second=file_fps
        )
    average = total_frames / times.num_ticks * times.ticks_per_second
    places = np.asarray(sample_frames(total_frames, average, sampling), dtype=np.int64)
    # In whole numbers: an instant that is the time of a frame must not fall short of it.
    instants = places * times.num_ticks // total_frames
    shown = np.asarray(times.ticks, dtype=np.int64)
    indices = np.searchsorted(shown, instants, side="right") - 1
    is_again = np.append(False, indices[1:] == indices[:-1])
    return TakenFrames(
        indices=tuple(indices.tolist()),
        ticks=tuple(np.where(is_again, instants, shown[indices]).tolist()),
        num_ticks=times.num_ticks,
        ticks_per_second=times.ticks_per_second,
    )


def take_given(
    num_frames: int,
    *,
    fps: float,
    times: Sequence[float] | None = None,
    temporal_patch_size: int,
    max_frames: int,
) -> TakenFrames:
    """Frames that somebody took already, all of them, with their times.

    Args:
        num_frames: How many there are.
        fps: Frames a second, where no times are given.
        times: Seconds of every frame, ascending.
        temporal_patch_size: Frames per temporal grid.
        max_frames: Most frames that a video may have.

    Raises:
        LayoutError: They are fewer than one temporal grid takes, or more than ``max_frames``.

    >>> taken = take_given(3, fps=2.0, times=[4.0, 4.5, 6.0], temporal_patch_size=2, max_frames=8)
    >>> taken.timestamps(2), taken.seconds_per_grid(2)
    ([4.25, 6.0], 2.0)
    """
    if num_frames < temporal_patch_size:
        raise LayoutError(
            f"the list has {num_frames} {'frame' if num_frames == 1 else 'frames'}, but one "
            f"temporal grid takes {temporal_patch_size}."
        )
    if num_frames > max_frames:
        raise LayoutError(
            f"the list has {num_frames} frames, over max_frames {max_frames}. Frames of a list are "
            "all taken: list fewer, or raise data.videos.max_frames."
        )
    indices = tuple(range(num_frames))
    if times is None:
        return TakenFrames(
            indices=indices, ticks=indices, num_ticks=num_frames, ticks_per_second=fps
        )
    ticks = tuple(round(seconds * GIVEN_TICKS_PER_SECOND) for seconds in times)
    # The last frame is shown as long as the others on average.
    spacing = (ticks[-1] - ticks[0]) / (num_frames - 1)
    return TakenFrames(
        indices=indices,
        ticks=ticks,
        num_ticks=round(spacing * num_frames),
        ticks_per_second=GIVEN_TICKS_PER_SECOND,
    )


def sample_frames(total_frames: int, file_fps: float, sampling: FrameSampling) -> list[int]:
    """Indices of the frames that the model sees.

    Args:
        total_frames: Frames in the file.
        file_fps: Frames per second of the file.
        sampling: The rule and its bounds.

    Raises:
        LayoutError: The video is shorter than one temporal grid or than the number of frames that
            is asked for, or its rate is not positive.

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
        # More than there are repeats some, as in the family's processor.
        count = sampling.num_frames or count
        return np.linspace(0, total_frames - 1, count).round().astype(int).tolist()
    group = sampling.temporal_patch_size
    most = math.floor(min(sampling.max_frames, total_frames) / group) * group
    wanted_frames = total_frames / file_fps * sampling.fps
    bounded = min(max(wanted_frames, sampling.min_frames), most, total_frames)
    count = math.floor(bounded / group) * group
    if sampling.num_frames is not None:
        count = round(sampling.num_frames / group) * group
    if count > total_frames:
        raise LayoutError(
            f"the video has {total_frames} frames, and data.videos.num_frames asks for {count}. "
            "Lower it, or leave the sample out."
        )
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
