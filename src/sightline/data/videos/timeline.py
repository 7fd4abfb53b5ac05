"""When every frame of a video is shown, and where decoding can begin, without decoding.

The index of a file (MP4, AVI) says it at once where its frames are evenly spaced. Everything else
is read from the packets: their times, sorted, are those of the frames.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream

from sightline.data.formats.media import MediaFile
from sightline.data.videos.files import opened_video, packets_of
from sightline.geometry import FrameTimes

# What transformers takes for the time of a frame, index / rate, may be this far from the truth:
# Matroska rounds times to milliseconds.
_TOLERANCE_SECONDS = 0.002
# 64 MB of times; the oldest go first.
_MAX_KNOWN_FRAMES = 8_000_000


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Timeline:
    """Times of the frames of a file, in the order in which they are shown.

    Attributes:
        ticks: (num_frames,) int64. Presentation time of each, in units of ``time_base``, strictly
            ascending.
        keys: (num_keys,) int64. Indices of frames at which decoding can begin, ascending.
        last_ticks: How long the last frame is shown.
        time_base: Seconds of a tick.
    """

    ticks: np.ndarray
    keys: np.ndarray
    last_ticks: int
    time_base: Fraction

    def times(self) -> FrameTimes:
        """The same, counted from the first frame."""
        since_first = self.ticks - self.ticks[0]
        return FrameTimes(
            ticks=tuple(since_first.tolist()),
            num_ticks=int(since_first[-1]) + self.last_ticks,
            ticks_per_second=float(1 / self.time_base),
        )

    def is_steady(self, rate: Fraction) -> bool:
        """Whether frame i is shown at ``i / rate`` seconds after the first."""
        seconds = (self.ticks - self.ticks[0]) * float(self.time_base)
        expected = np.arange(len(seconds)) / float(rate)
        return bool(np.abs(seconds - expected).max() <= _TOLERANCE_SECONDS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Packets:
    """What the packets of a file say.

    Attributes:
        num_frames: Frames, one a packet.
        timeline: Their times; None where packets have none, or two have the same.
    """

    num_frames: int
    timeline: Timeline | None


def indexed_timeline(stream: VideoStream, first_pts: int | None) -> Timeline | None:
    """Times from the index of an opened file; None where it has none or they are not even.

    Args:
        stream: The opened stream.
        first_pts: Presentation time of the first frame. An index holds the times of decoding; only
            where these are even do they say when frames are shown.
    """
    # PyAV before 15 shows no index: packets are read instead.
    entries = getattr(stream, "index_entries", None)
    if not entries or len(entries) != stream.frames or first_pts is None:
        return None
    if stream.time_base is None or any(entry.is_discard for entry in entries):
        return None
    ticks = np.fromiter((entry.timestamp for entry in entries), dtype=np.int64)
    keys = np.flatnonzero([entry.is_keyframe for entry in entries])
    steps = np.diff(ticks)
    step = int(steps[0]) if len(steps) else 1
    if step <= 0 or (steps != step).any():
        return None
    return Timeline(
        ticks=first_pts + step * np.arange(len(ticks), dtype=np.int64),
        keys=keys,
        last_ticks=step,
        time_base=stream.time_base,
    )


def read_packets(file: MediaFile) -> Packets:
    """What the packets of a file say: it is read through, and nothing is decoded.

    The answers for the last files are kept, as long as a file is the same by size and time.

    Raises:
        MediaError: The file is missing, no video or damaged.
    """
    key = _key(file)
    if key is None:
        return _read(file)
    found = _KNOWN.get(key)
    if found is None:
        found = _KNOWN[key] = _read(file)
        while len(_KNOWN) > 1 and sum(one.num_frames for one in _KNOWN.values()) > (
            _MAX_KNOWN_FRAMES
        ):
            _KNOWN.popitem(last=False)
    return found


_Key = tuple[Path, int, int]
_KNOWN: OrderedDict[_Key, Packets] = OrderedDict()


def _key(file: MediaFile) -> _Key | None:
    if file.content is not None:
        return None
    try:
        status = file.path.stat()
    except (OSError, ValueError):
        return None
    return file.path, status.st_size, status.st_mtime_ns


def _read(file: MediaFile) -> Packets:
    found: list[tuple[int | None, int | None, int, bool]] = []
    with opened_video(file) as (container, stream):
        for packet in packets_of(container):
            if packet.size and not packet.is_discard and not _is_hidden(packet, stream):
                found.append((packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe))
        time_base = stream.time_base
    timeline = None
    if time_base is not None:
        shown = [(pts, length, is_key) for pts, _, length, is_key in found]
        decoded = [(dts, length, is_key) for _, dts, length, is_key in found]
        timeline = _timeline(shown, time_base)
        # AVI has times of decoding alone, and FFmpeg's guess at the others may have gaps. They are
        # as far apart; where frames come out at other times, they are not sought.
        timeline = timeline or _timeline(decoded, time_base)
    return Packets(num_frames=len(found), timeline=timeline)


def _timeline(packets: list[tuple[int | None, int, bool]], time_base: Fraction) -> Timeline | None:
    """A timeline of time, duration and key of every packet; None where times are not distinct."""
    timed = sorted((tick, length, is_key) for tick, length, is_key in packets if tick is not None)
    if not timed or len(timed) != len(packets):
        return None
    ticks = np.array([tick for tick, _, _ in timed], dtype=np.int64)
    if (ticks[1:] <= ticks[:-1]).any():
        return None
    spacing = round(float(ticks[-1] - ticks[0]) / max(len(ticks) - 1, 1))
    return Timeline(
        ticks=ticks,
        keys=np.flatnonzero([is_key for _, _, is_key in timed]),
        last_ticks=max(timed[-1][1] or spacing, 1),
        time_base=time_base,
    )


def _is_hidden(packet: Packet, stream: VideoStream) -> bool:
    """Whether a packet is a frame that is only referred to, and never shown.

    VP8 has packets for those. RFC 6386, 9.1: the fifth bit of a frame says whether it is shown.
    """
    return stream.codec_context.name == "vp8" and not bytes(packet)[0] >> 4 & 1
