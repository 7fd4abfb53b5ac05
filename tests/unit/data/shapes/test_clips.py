from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from sightline.data.shapes.clips import (
    DIRECTIONS,
    Clip,
    draw_frames,
    sample_clip,
    whole_seconds,
    write_video,
)


def clip_of(seed: int, *, max_shapes: int = 3, late: int | None = None) -> Clip:
    return sample_clip(
        np.random.default_rng(seed),
        size=(64, 96),
        num_frames=24,
        fps=8.0,
        max_shapes=max_shapes,
        late=late,
    )


def test_whole_seconds_leave_two_frames() -> None:
    assert whole_seconds(24, 8.0) == [1, 2]
    assert whole_seconds(10, 8.0) == [1]
    assert whole_seconds(9, 8.0) == []
    assert whole_seconds(16, 7.5) == [1]
    assert whole_seconds(3, 0.5) == [1, 2]


@pytest.mark.parametrize("seed", range(8))
def test_shapes_move_the_way_they_say(seed: int) -> None:
    for track in clip_of(seed).tracks:
        assert track.direction is not None
        way = track.corners[-1] - track.corners[0]
        assert np.sign(way).tolist() == list(DIRECTIONS[track.direction])
        assert np.abs(way).max() >= 12
        assert np.abs(np.diff(track.corners[:, 0], 2)).max() <= 1


@pytest.mark.parametrize("seed", range(8))
def test_shapes_never_touch_and_never_leave(seed: int) -> None:
    tracks = [track.boxes() for track in clip_of(seed, max_shapes=6, late=1).tracks]
    for boxes in zip(*tracks, strict=True):
        covered = np.zeros((64, 96), dtype=int)
        for box in boxes:
            if box is not None:
                x1, y1, x2, y2 = box
                assert 0 <= x1 < x2 <= 96
                assert 0 <= y1 < y2 <= 64
                covered[y1:y2, x1:x2] += 1
        assert covered.max() == 1


def test_a_late_shape_has_no_box_before_it_appears() -> None:
    track = clip_of(3, late=0).tracks[0]
    assert track.direction is None
    assert track.appears_seconds in (1, 2)
    boxes = track.boxes()
    assert boxes[: track.appears_seconds * 8] == [None] * (track.appears_seconds * 8)
    assert boxes[track.appears_seconds * 8] is not None
    assert boxes[-1] == boxes[track.appears_seconds * 8]


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_a_video_holds_its_frames(tmp_path: Path, codec: str) -> None:
    clip = clip_of(5)
    path = tmp_path / "clip.mp4"
    frames = list(draw_frames(np.random.default_rng(5), clip))
    write_video(path, iter(frames), size=(64, 96), fps=8.0, codec=codec)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == 8
        assert stream.codec_context.pix_fmt == "yuv420p"
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(decoded) == 24
    for wanted, found in zip(frames, decoded, strict=True):
        assert np.abs(np.asarray(wanted, dtype=int) - found).mean() < 6
