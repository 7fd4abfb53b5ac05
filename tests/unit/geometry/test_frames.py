"""Frames taken and the times they stand for, by hand."""

from __future__ import annotations

import pytest

from sightline.errors import LayoutError
from sightline.geometry import FrameSampling, grid_timestamps, sample_frames, seconds_per_grid


def _sampling(rule: str, **changes: float) -> FrameSampling:
    settings = {"fps": 2.0, "min_frames": 4, "max_frames": 768, "temporal_patch_size": 2}
    return FrameSampling(rule=rule, **(settings | changes))


def test_two_frames_a_second() -> None:
    assert sample_frames(40, 10.0, _sampling("arange_truncated")) == [0, 5, 10, 15, 20, 25, 30, 35]
    assert sample_frames(40, 10.0, _sampling("linspace_rounded")) == [0, 6, 11, 17, 22, 28, 33, 39]


def test_bounds_on_the_number_of_frames() -> None:
    assert len(sample_frames(10, 10.0, _sampling("arange_truncated"))) == 4
    assert len(sample_frames(900, 10.0, _sampling("arange_truncated", max_frames=7))) == 6
    assert len(sample_frames(900, 10.0, _sampling("linspace_rounded", max_frames=7))) == 7
    assert sample_frames(3, 10.0, _sampling("linspace_rounded")) == [0, 1, 2]


def test_seconds_follow_from_the_frames_really_taken() -> None:
    assert seconds_per_grid(8, 40, 10.0, 2) == pytest.approx(1.0)
    assert seconds_per_grid(4, 10, 10.0, 2) == pytest.approx(0.5)


def test_timestamps_are_the_middle_of_a_grid_and_the_last_frame_repeats() -> None:
    assert grid_timestamps([0, 10, 20], 10.0, 2) == [0.5, 2.0]


def test_a_video_shorter_than_a_grid_is_refused() -> None:
    with pytest.raises(LayoutError, match="the video has 1 frames, but one temporal grid takes 2"):
        sample_frames(1, 10.0, _sampling("arange_truncated"))


def test_a_video_without_a_rate_is_refused() -> None:
    with pytest.raises(LayoutError, match="states 0 frames a second"):
        sample_frames(10, 0, _sampling("arange_truncated"))
