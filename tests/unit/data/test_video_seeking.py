"""Frames that were sought are those of decoding in order, bit for bit, in every kind of file."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from av.codec import codecs_available

from sightline.data.formats.media import MediaFile
from sightline.data.videos import each_frame, load, load_frames, probe_video, timeline
from sightline.data.videos.timeline import Timeline, read_packets
from sightline.errors import MediaError

NUM_FRAMES = 150
_FAST_VPX = {"g": "40", "deadline": "realtime", "cpu-used": "8"}
_FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}
FILES: dict[str, dict] = {
    "short groups.mp4": {"options": {"g": "12", "bf": "3"}},
    "long group.mp4": {"options": {"g": "250", "bf": "2"}},
    "open groups.mp4": {"options": {"g": "30", "bf": "3", "x264-params": "open-gop=1"}},
    "no key frames.mp4": {"options": {"g": "30", "x264-params": "intra-refresh=1"}},
    "fragments.mp4": {"options": {"g": "12", "bf": "3"}, "muxer_options": _FRAGMENTS},
    "h264.mov": {"options": {"g": "30", "bf": "3"}},
    "h264.mkv": {"options": {"g": "30", "bf": "3"}},
    "h264.ts": {"options": {"g": "30", "bf": "3"}},
    "h264.avi": {"options": {"g": "30", "bf": "3"}},
    "mpeg4.mp4": {"codec": "mpeg4", "options": {"g": "20", "bf": "2"}},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"g": "20", "bf": "2"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": _FAST_VPX},
    "vp8.webm": {"codec": "libvpx", "options": _FAST_VPX},
    "mpeg4.ts": {"codec": "mpeg4", "options": {"g": "30", "bf": "2"}},
}
TIMES = ("steady", "late", "varying")
_STEPS = random.Random(3).choices([10, 33, 40, 100, 250], k=NUM_FRAMES - 1)
VARYING = (0, *accumulate(_STEPS))


@pytest.fixture(scope="module")
def video(
    tmp_path_factory: pytest.TempPathFactory, make_video: ModuleType
) -> Callable[[str, str], Path]:
    folder = tmp_path_factory.mktemp("videos")

    def made(name: str, times: str) -> Path:
        path = folder / f"{times} {name}"
        if FILES[name].get("codec", "libx264") not in codecs_available:
            pytest.skip(f"this PyAV cannot write {FILES[name].get('codec', 'libx264')}")
        if path.exists():
            return path
        if times == "varying":
            return make_video.write_timed_video(path, VARYING, **FILES[name])
        first = 37 if times == "late" else 0
        return make_video.write_steady_video(path, NUM_FRAMES, first_tick=first, **FILES[name])

    return made


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How frames were got: one word for every file that was decoded."""
    found: list[str] = []
    seeked, in_order = load._seeked, load._in_order

    def seek(*args: object) -> Iterator[np.ndarray]:
        found.append("sought")
        yield from seeked(*args)  # type: ignore[arg-type]

    def order(*args: object) -> Iterator[np.ndarray]:
        found.append("in order")
        yield from in_order(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(load, "_seeked", seek)
    monkeypatch.setattr(load, "_in_order", order)
    return found


def decoded(path: Path) -> np.ndarray:
    """All frames, by PyAV alone."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def lists_of_indices(seed: int) -> list[list[int]]:
    rng = random.Random(seed)
    return [sorted(rng.sample(range(NUM_FRAMES), count)) for count in (1, 2, 3, 7, 20)]


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("name", FILES)
def test_sought_frames_are_those_of_decoding_in_order(
    name: str,
    times: str,
    video: Callable[[str, str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = video(name, times)
    everything = decoded(path)
    num_frames = probe_video(path).num_frames
    assert num_frames == len(everything)
    for least in (0, 24):
        monkeypatch.setattr(load, "MIN_SKIPPED_FRAMES", least)
        for indices in lists_of_indices(least):
            inside = [min(index, num_frames - 1) for index in indices]
            np.testing.assert_array_equal(load_frames(path, inside), everything[inside])


@pytest.mark.parametrize("times", ["steady", "varying"])
@pytest.mark.parametrize(
    "name", [name for name in FILES if name not in ("h264.avi", "mpeg4.avi", "no key frames.mp4")]
)
def test_files_with_key_frames_and_times_are_sought(
    name: str, times: str, video: Callable[[str, str], Path], ways: list[str]
) -> None:
    load_frames(video(name, times), [5, 100, 140])
    assert ways == ["sought"]


def test_after_a_seek_frames_before_the_key_frame_are_passed_over() -> None:
    """They may refer to frames that were not decoded."""
    line = Timeline(
        ticks=np.arange(0, 100, 10), keys=np.array([0, 5]), last_ticks=10, time_base=Fraction(1, 9)
    )
    shown = [(30, False), (40, False), (50, True), (60, False)]
    frames: Any = [SimpleNamespace(pts=pts, key_frame=is_key) for pts, is_key in shown]
    assert [place for place, _ in load._checked(iter(frames), line, first=None)] == [5, 6]


def test_near_frames_are_not_sought(video: Callable[[str, str], Path], ways: list[str]) -> None:
    load_frames(video("h264.mkv", "steady"), [0, 20, 40])
    assert ways == ["in order"]


def test_files_in_memory_are_sought_too(video: Callable[[str, str], Path], ways: list[str]) -> None:
    path = video("short groups.mp4", "varying")
    frames = load_frames(Path("row 3"), [3, 120], content=path.read_bytes())
    np.testing.assert_array_equal(frames, decoded(path)[[3, 120]])
    assert ways == ["sought"]


def shifted(line: Timeline) -> Timeline:
    """A timeline that is wrong by one frame."""
    step = int(line.ticks[1] - line.ticks[0])
    return dataclasses.replace(line, ticks=line.ticks + step)


def doubled(line: Timeline) -> Timeline:
    """A timeline that has a frame more than the file, in the middle."""
    middle = int(line.ticks[70]) + 1
    return dataclasses.replace(line, ticks=np.insert(line.ticks, 71, middle))


@pytest.mark.parametrize(
    ("spoiled", "expected_ways"), [(shifted, ["in order"]), (doubled, ["sought", "in order"])]
)
def test_a_wrong_timeline_is_seen_and_the_file_decoded_in_order(
    spoiled: Callable[[Timeline], Timeline],
    expected_ways: list[str],
    video: Callable[[str, str], Path],
    monkeypatch: pytest.MonkeyPatch,
    ways: list[str],
) -> None:
    path = video("h264.mkv", "steady")
    packets = read_packets(MediaFile(path=path))
    assert packets.timeline is not None
    wrong = dataclasses.replace(packets, timeline=spoiled(packets.timeline))
    monkeypatch.setattr(load, "read_packets", lambda _: wrong)
    # The second group of frames is decoded across the place where the timeline is wrong.
    np.testing.assert_array_equal(load_frames(path, [66, 75]), decoded(path)[[66, 75]])
    assert ways == expected_ways


def test_a_hole_in_the_file_is_never_passed_over(
    tmp_path: Path, make_video: ModuleType, ways: list[str]
) -> None:
    """Only what is asked for is decoded: frames beyond a damaged group are still right."""
    path = make_video.write_steady_video(
        tmp_path / "hole.mkv", NUM_FRAMES, options={"g": "30", "bf": "0"}
    )
    whole = decoded(path)
    data = bytearray(path.read_bytes())
    packets: list[tuple[int, int]] = []
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            if packet.size:
                packets.append((data.index(bytes(packet)), packet.size))
    for begin, size in packets[35:55]:
        data[begin + 8 : begin + size] = bytes(size - 8)
    path.write_bytes(data)
    np.testing.assert_array_equal(load_frames(path, [3, 100]), whole[[3, 100]])
    assert ways == ["sought"]


def test_frames_that_are_never_shown_are_not_counted(
    tmp_path: Path, make_video: ModuleType
) -> None:
    """VP8 has packets that are only referred to; here one is made into such a one."""
    path = make_video.write_steady_video(tmp_path / "a.webm", 60, **FILES["vp8.webm"])
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    # The fifth bit of a frame says that it is shown.
    data[data.index(packets[20])] &= ~0x10
    path.write_bytes(data)
    everything = decoded(path)
    assert len(everything) == 59
    assert probe_video(path).num_frames == 59
    np.testing.assert_array_equal(load_frames(path, [2, 50]), everything[[2, 50]])


def test_frames_come_one_by_one(video: Callable[[str, str], Path]) -> None:
    path = video("h264.mkv", "steady")
    each = each_frame(path, [0, 60, 149])
    everything = decoded(path)
    for index in (0, 60, 149):
        np.testing.assert_array_equal(next(each), everything[index])
    assert next(each, None) is None


def test_beyond_the_end_both_ways_say_the_same(video: Callable[[str, str], Path]) -> None:
    path = video("short groups.mp4", "steady")
    for indices in ([149, 150], [0, 160]):
        with pytest.raises(MediaError) as caught:
            load_frames(path, indices)
        assert str(caught.value).startswith(
            f"{path} has 150 frames that decode, the header promises 150; "
            f"frame {indices[-1]} is not there."
        )


def test_packets_are_read_once_while_the_file_stays_the_same(
    tmp_path: Path, make_video: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_video.write_steady_video(tmp_path / "a.mkv", 40)
    reads: list[Path] = []
    read = timeline._read

    def counted(file: MediaFile) -> timeline.Packets:
        reads.append(file.path)
        return read(file)

    monkeypatch.setattr(timeline, "_read", counted)
    monkeypatch.setattr(timeline, "_KNOWN", type(timeline._KNOWN)())
    assert [read_packets(MediaFile(path=path)).num_frames for _ in range(3)] == [40, 40, 40]
    assert len(reads) == 1
    make_video.write_steady_video(path, 30)
    assert read_packets(MediaFile(path=path)).num_frames == 30
    assert len(reads) == 2


def test_the_oldest_timelines_are_forgotten(
    tmp_path: Path, make_video: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = type(timeline._KNOWN)()
    monkeypatch.setattr(timeline, "_KNOWN", known)
    monkeypatch.setattr(timeline, "_MAX_KNOWN_FRAMES", 100)
    paths = [make_video.write_steady_video(tmp_path / f"{name}.mkv", 40) for name in "abc"]
    for path in paths:
        read_packets(MediaFile(path=path))
    assert [key[0] for key in known] == paths[1:]


def test_a_turned_file_is_turned_after_a_seek(
    tmp_path: Path, make_video: ModuleType, ways: list[str]
) -> None:
    path = make_video.write_steady_video(tmp_path / "phone.mp4", NUM_FRAMES, options={"g": "20"})
    upright = decoded(path)[[2, 100, 149]]
    make_video.turn(path, 1)
    indices: Sequence[int] = [2, 100, 149]
    np.testing.assert_array_equal(load_frames(path, indices), np.rot90(upright, k=1, axes=(1, 2)))
    assert ways == ["sought"]
