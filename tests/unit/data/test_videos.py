"""Videos: the header, the frames of transformers' own reader, and every fault."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest
from transformers.video_utils import read_video_pyav

from sightline.data.conversation import Origin
from sightline.data.videos import VideoInfo, files, load, load_frames, probe_video
from sightline.errors import MediaError

FIX = "Mend or replace the file, or leave the sample out."
SHARED = Path(__file__).parents[4] / "shared/data/llamafactory_demo/mllm_demo_data"
REAL_VIDEOS = ["1.mp4", "2.avi", "3.mp4", "4.mp4"]


def write_video(path: Path, *, num_frames: int = 12, muxer_options: dict | None = None) -> Path:
    """A video of 64 x 48 pixels: red above on the left, blue that grows with time below right."""
    with av.open(str(path), "w", options=muxer_options or {}) as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(num_frames):
            pixels = np.zeros((48, 64, 3), dtype=np.uint8)
            pixels[:24, :32] = (255, 0, 0)
            pixels[24:, 32:] = (0, 0, 4 * index)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def reference(path: Path, indices: list[int]) -> tuple[np.ndarray, Any]:
    return read_video_pyav(str(path), lambda metadata, **_: indices)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_header(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"shapes{suffix}")
    assert probe_video(path) == VideoInfo(
        num_frames=12,
        fps=5.0,
        height=48,
        width=64,
        duration_seconds=2.4,
        # Matroska does not state how many frames it has.
        is_plain=suffix != ".mkv",
    )


def test_frames_equal_those_of_transformers(tmp_path: Path) -> None:
    path = write_video(tmp_path / "shapes.mp4")
    expected, metadata = reference(path, [0, 3, 11])
    frames = load_frames(path, [0, 3, 11])
    assert frames.shape == (3, 48, 64, 3)
    assert frames.dtype == np.uint8
    assert np.array_equal(frames, expected)
    info = probe_video(path)
    assert (info.num_frames, info.fps) == (metadata.total_num_frames, metadata.fps)
    assert (info.height, info.width) == (metadata.height, metadata.width)
    assert info.duration_seconds == metadata.duration


def test_frames_come_in_the_order_asked_for_and_may_repeat(tmp_path: Path) -> None:
    path = write_video(tmp_path / "shapes.mp4")
    first, third = load_frames(path, [0, 3])
    frames = load_frames(path, [3, 0, 3])
    assert np.array_equal(frames, np.stack([third, first, third]))
    assert not np.array_equal(first, third)


@pytest.mark.parametrize(
    ("quarter_turns", "size", "red"), [(1, (64, 48), (-4, 4)), (2, (48, 64), (-4, -4))]
)
def test_display_rotation_is_applied(
    tmp_path: Path,
    make_video: ModuleType,
    quarter_turns: int,
    size: tuple[int, int],
    red: tuple[int, int],
) -> None:
    path = write_video(tmp_path / "phone.mp4")
    stored, _ = reference(path, [0, 5])
    make_video.turn(path, quarter_turns)
    info, frames = probe_video(path), load_frames(path, [0, 5])
    assert (info.height, info.width) == size
    assert frames.shape == (2, *size, 3)
    assert np.array_equal(frames, np.rot90(stored, k=quarter_turns, axes=(1, 2)))
    assert frames[0, red[0], red[1], 0] > 200


VARYING = (0, 10, 30, 300, 310, 900, 1000, 1040)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
def test_real_times_where_the_rate_varies(
    tmp_path: Path, make_video: ModuleType, name: str
) -> None:
    """The rate that FFmpeg states is the same as the one it guesses: it does not tell."""
    path = make_video.write_timed_video(tmp_path / name, VARYING)
    info = probe_video(path)
    assert info.times is not None
    clock = info.times.ticks_per_second
    assert [round(1000 * tick / clock) for tick in info.times.ticks] == list(VARYING)
    assert info.times.num_ticks > info.times.ticks[-1]
    assert info.duration_seconds == pytest.approx(info.times.num_ticks / clock)
    assert info.fps == pytest.approx(8 / info.duration_seconds)
    assert not info.is_plain


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_times_count_from_the_first_frame(
    tmp_path: Path, make_video: ModuleType, name: str
) -> None:
    late = [tick + 5000 for tick in VARYING]
    info = probe_video(make_video.write_timed_video(tmp_path / name, late))
    assert info.times is not None
    clock = info.times.ticks_per_second
    assert [round(1000 * tick / clock) for tick in info.times.ticks] == list(VARYING)
    steady = probe_video(make_video.write_steady_video(tmp_path / f"s{name}", 12, first_tick=70))
    assert (steady.times, steady.num_frames, steady.fps) == (None, 12, 10.0)


def test_milliseconds_of_matroska_are_a_constant_rate(
    tmp_path: Path, make_video: ModuleType
) -> None:
    info = probe_video(make_video.write_steady_video(tmp_path / "a.mkv", 40, fps=30))
    assert (info.times, info.fps) == (None, 30.0)


def test_a_last_frame_that_stays_makes_the_average_rate_untrue(
    tmp_path: Path, make_video: ModuleType
) -> None:
    """Index / rate would put frame 9 of a second at half its time."""
    ticks = [*range(0, 1000, 100), 10_000]
    info = probe_video(make_video.write_timed_video(tmp_path / "a.mkv", ticks))
    assert info.times is not None
    assert info.times.ticks == tuple(ticks)


def test_absurd_times_are_refused(tmp_path: Path, make_video: ModuleType) -> None:
    path = make_video.write_timed_video(tmp_path / "a.mkv", [0, 1000, 2_000_000_000])
    with pytest.raises(MediaError, match=r"states that its 3 frames last 2,000,000 seconds"):
        probe_video(path)


def test_absurd_sizes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4")
    monkeypatch.setattr(files, "MAX_FRAME_PIXELS", 64 * 48 - 1)
    for read in (probe_video, lambda path: load_frames(path, [0])):
        with pytest.raises(MediaError) as caught:
            read(path)
        assert str(caught.value) == (
            f"{path} has frames of 64 x 48 pixels, 3,072 each; up to 3,071 are decoded.\n{FIX}"
        )


@pytest.mark.parametrize("seconds", [0.1, 40.0])
def test_a_video_that_is_never_decoded_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """A clock that says how long a frame takes; five seconds are allowed for all."""
    path = write_video(tmp_path / "a.mp4")
    times = itertools.count(0.0, seconds)
    monkeypatch.setattr(files, "MAX_DECODING_SECONDS", 5.0)
    monkeypatch.setattr(files.time, "monotonic", lambda: next(times))
    if seconds < 1:
        assert len(load_frames(path, range(10))) == 10
        return
    with pytest.raises(MediaError) as caught:
        load_frames(path, range(10))
    assert str(caught.value) == f"{path} was not decoded after 5 seconds.\n{FIX}"
    assert caught.value.code == "media.slow"


def test_a_codec_that_nobody_knows(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zz9z").replace(b"avcC", b"zz9C"))
    with pytest.raises(MediaError) as caught:
        probe_video(path)
    assert str(caught.value) == f"{path} has video in a codec that FFmpeg does not know.\n{FIX}"


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "v.mp4", "a.avi"])
def test_damaged_files_get_a_reason_each(
    tmp_path: Path, make_video: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut, flipped, blanked: every file is read or refused, and nothing else is raised."""
    monkeypatch.setattr(load, "MIN_SKIPPED_FRAMES", 4)
    path = tmp_path / name
    if name.startswith("v"):
        make_video.write_timed_video(path, [index * 37 + index % 3 * 9 for index in range(40)])
    else:
        make_video.write_steady_video(path, 40, options={"g": "8"})
    whole, rng, reasons, num_read = path.read_bytes(), random.Random(name), [], 0
    for _ in range(80):
        path.write_bytes(_damaged(whole, rng))
        try:
            info = probe_video(path)
            load_frames(path, sorted({0, info.num_frames // 2, info.num_frames - 1}))
            num_read += 1
        except MediaError as error:
            reasons.append(str(error))
    assert min(num_read, len(reasons)) > 3
    assert all(reason.startswith(str(path)) for reason in reasons)


def _damaged(data: bytes, rng: random.Random) -> bytes:
    kind, changed = rng.choice(["cut", "flip", "blank", "head"]), bytearray(data)
    if kind == "cut":
        return data[: rng.randrange(len(data))]
    if kind == "blank":
        begin = rng.randrange(len(data))
        changed[begin : begin + 200] = bytes(200)
    for _ in range({"flip": 5, "head": 3}.get(kind, 0)):
        span = len(data) if kind == "flip" else min(len(data), 1500)
        changed[rng.randrange(span)] = rng.randrange(256)
    return bytes(changed)


def test_a_stream_that_begins_in_the_middle(tmp_path: Path, make_video: ModuleType) -> None:
    """As in a damaged transport stream: packets of 188 bytes, the third names their stream."""
    path = make_video.write_steady_video(tmp_path / "a.ts", 40, options={"g": "8"})
    data = bytearray(path.read_bytes())
    frames = [at for at in range(0, len(data), 188) if data[at + 1 : at + 3] == b"\x41\x00"]
    data[frames[-5] + 2] = 0x57
    path.write_bytes(data)
    with pytest.raises(MediaError) as caught:
        probe_video(path)
    assert str(caught.value) == (
        f"{path} is not a video, or is damaged: a stream begins in its middle.\n{FIX}"
    )


def test_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "none.mp4"
    origin = Origin(file=Path("train.jsonl"), line=2, index=1)
    with pytest.raises(MediaError) as caught:
        probe_video(path, origin=origin, field="videos[0]")
    assert str(caught.value) == f"train.jsonl:2: videos[0]: {path} does not exist.\n{FIX}"


def test_not_a_video(tmp_path: Path) -> None:
    path = tmp_path / "notes.mp4"
    path.write_text("not a video")
    for read in (probe_video, lambda path: load_frames(path, [0])):
        with pytest.raises(MediaError) as caught:
            read(path)
        assert str(caught.value) == (
            f"{path} is not a video, or is damaged: "
            f"Invalid data found when processing input.\n{FIX}"
        )


def test_no_video_stream(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 800), dtype=np.int16), layout="mono")
        samples.sample_rate = 8000
        for packet in stream.encode(samples):
            container.mux(packet)
    with pytest.raises(MediaError) as caught:
        probe_video(path)
    assert str(caught.value) == f"{path} has no video stream.\n{FIX}"


def test_fewer_frames_than_the_header_promises(tmp_path: Path) -> None:
    path = write_video(tmp_path / "cut.mp4", num_frames=60, muxer_options={"movflags": "faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2])
    assert probe_video(path).num_frames == 60
    assert load_frames(path, [0]).shape == (1, 48, 64, 3)
    with pytest.raises(
        MediaError,
        match=r"cut\.mp4 has [1-5]\d frames that decode, the header promises 60; "
        "frame 59 is not there",
    ):
        load_frames(path, [0, 59])


def test_an_index_beyond_the_end(tmp_path: Path) -> None:
    path = write_video(tmp_path / "short.mp4")
    with pytest.raises(MediaError) as caught:
        load_frames(path, [0, 12])
    assert str(caught.value) == (
        f"{path} has 12 frames that decode, the header promises 12; frame 12 is not there.\n{FIX}"
    )


def test_indices_must_be_some_and_not_negative(tmp_path: Path) -> None:
    for indices in ([], [-1]):
        with pytest.raises(ValueError, match="at least one frame and none below 0"):
            load_frames(tmp_path / "any.mp4", indices)


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data/llamafactory_demo is not there")
@pytest.mark.parametrize("name", REAL_VIDEOS)
def test_real_videos_equal_transformers(name: str) -> None:
    path = SHARED / name
    info = probe_video(path)
    indices = [0, info.num_frames // 3, info.num_frames // 2]
    expected, metadata = reference(path, indices)
    assert np.array_equal(load_frames(path, indices), expected)
    assert (info.num_frames, info.fps) == (metadata.total_num_frames, metadata.fps)
