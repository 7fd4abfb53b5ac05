"""Frames taken and the times they stand for, by hand."""

from __future__ import annotations

import pytest

from sightline.errors import LayoutError
from sightline.geometry import (
    FrameSampling,
    FrameTimes,
    grid_timestamps,
    sample_frames,
    seconds_per_grid,
    take_frames,
    take_given,
)


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


def test_a_number_of_frames_whatever_the_length() -> None:
    """As the families' own processors take ``num_frames``: see the parity test."""
    truncated = _sampling("arange_truncated", num_frames=5)
    assert sample_frames(40, 10.0, truncated) == [0, 10, 20, 30]
    assert len(sample_frames(4000, 10.0, truncated)) == 4
    rounded = _sampling("linspace_rounded", num_frames=5)
    assert sample_frames(40, 10.0, rounded) == [0, 10, 20, 29, 39]
    assert sample_frames(3, 10.0, rounded) == [0, 0, 1, 2, 2]


def test_more_frames_than_there_are() -> None:
    with pytest.raises(LayoutError) as caught:
        sample_frames(6, 10.0, _sampling("arange_truncated", num_frames=8))
    assert str(caught.value) == (
        "the video has 6 frames, and data.videos.num_frames asks for 8. "
        "Lower it, or leave the sample out."
    )


def test_in_a_file_of_constant_rate_a_tick_is_a_frame() -> None:
    taken = take_frames(40, 10.0, _sampling("arange_truncated"))
    assert taken.indices == taken.ticks == (0, 5, 10, 15, 20, 25, 30, 35)
    assert (taken.num_ticks, taken.ticks_per_second) == (40, 10.0)
    assert taken.timestamps(2) == [0.25, 1.25, 2.25, 3.25]
    assert taken.seconds_per_grid(2) == pytest.approx(1.0)


def test_real_times_of_a_constant_rate_take_the_same_frames() -> None:
    """A tick is 1/12800 s, a frame 512 of them: 25 frames a second, as a file would state it."""
    times = FrameTimes(
        ticks=tuple(range(0, 243 * 512, 512)), num_ticks=243 * 512, ticks_per_second=12800.0
    )
    for rule in ("arange_truncated", "linspace_rounded"):
        plain = take_frames(243, 25.0, _sampling(rule))
        real = take_frames(243, 25.0, _sampling(rule), times)
        assert real.indices == plain.indices
        assert real.timestamps(2) == pytest.approx(plain.timestamps(2), abs=1e-12)
        assert real.seconds_per_grid(2) == pytest.approx(plain.seconds_per_grid(2), abs=1e-12)


def test_where_the_rate_varies_the_frame_that_is_shown_is_taken() -> None:
    """Ten frames in the first second, then one a second: 0.0 to 0.9, then 1 to 9."""
    shown = (*range(0, 1000, 100), *range(1000, 10_000, 1000))
    times = FrameTimes(ticks=shown, num_ticks=10_000, ticks_per_second=1000.0)
    taken = take_frames(19, 1.9, _sampling("arange_truncated", fps=0.8), times)
    # 8 frames of 19 stand 2.375 apart: 0, 2, 4, 7, 9, 11, 14, 16, at 10/19 seconds each.
    assert taken.indices == (0, 10, 11, 12, 13, 14, 16, 17)
    assert taken.ticks == (0, 1000, 2000, 3000, 4000, 5000, 7000, 8000)
    # By index / rate frame 16 would have been at 8.4 seconds, and frame 10 at 5.3.
    assert taken.timestamps(2) == [0.5, 2.5, 4.5, 7.5]
    assert taken.seconds_per_grid(2) == pytest.approx(2 * 10.0 / 8)


def test_a_frame_that_stays_has_the_instant_at_which_it_is_seen_again() -> None:
    times = FrameTimes(ticks=(0, 10, 20, 30), num_ticks=400, ticks_per_second=100.0)
    taken = take_frames(4, 1.0, _sampling("arange_truncated"), times)
    assert taken.indices == (0, 3, 3, 3)
    assert taken.ticks == (0, 30, 200, 300)


def test_given_frames_are_all_taken_at_their_rate_or_times() -> None:
    bounds = {"temporal_patch_size": 2, "max_frames": 8}
    at_rate = take_given(4, fps=0.5, **bounds)  # type: ignore[arg-type]
    assert at_rate.timestamps(2) == [1.0, 5.0]
    assert at_rate.seconds_per_grid(2) == pytest.approx(4.0)
    timed = take_given(3, fps=2.0, times=[3.0, 4.0, 7.5], **bounds)  # type: ignore[arg-type]
    assert timed.timestamps(2) == [3.5, 7.5]
    assert timed.seconds_per_grid(2) == pytest.approx(2 * 4.5 / 2)


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (1, "the list has 1 frame, but one temporal grid takes 2."),
        (9, "the list has 9 frames, over max_frames 8. Frames of a list are all taken: list "
            "fewer, or raise data.videos.max_frames."),
    ],
)  # fmt: skip
def test_too_few_or_too_many_given_frames(count: int, said: str) -> None:
    with pytest.raises(LayoutError) as caught:
        take_given(count, fps=2.0, temporal_patch_size=2, max_frames=8)
    assert str(caught.value) == said
