"""Frames of a video by their index: seeked where much would be skipped, decoded in order else.

Seeking is checked, never trusted: from the key frame on, every decoded frame must be the one that
the timeline has next. Where it is not, the file is decoded from its beginning. Both ways give
the same pixels (``tests/unit/data/test_video_seeking.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from sightline.data.conversation import Origin
from sightline.data.formats.media import MediaFile
from sightline.data.videos.files import FIX, decoded, opened_video, upright_pixels
from sightline.data.videos.timeline import Timeline, indexed_timeline, read_packets

# A seek costs about as much as decoding this many small frames.
MIN_SKIPPED_FRAMES = 24
_NUM_TRIES = 4


class _MismatchError(Exception):
    """Frames come out in another way than the timeline says."""


def load_frames(
    path: Path,
    indices: Sequence[int],
    *,
    origin: Origin | None = None,
    field: str | None = None,
    content: bytes | None = None,
) -> np.ndarray:
    """The frames at ``indices``, in that order; an index may come more than once.

    Args:
        path: The video file.
        indices: Which frames, counted from 0 in the order in which they are shown.
        origin: The sample that names the file, for the message.
        field: The field that names the file, for the message.
        content: The bytes of the file, where they stand in the sample.

    Returns:
        frames: (num_frames, height, width, 3) uint8. RGB, upright.

    Raises:
        MediaError: The file is missing, no video or broken, or a frame is not there.

    Reference:
        ``read_video_pyav`` in transformers 5.23, checked in tests/unit/data/test_videos.py.
    """
    wanted = [int(index) for index in indices]
    if not wanted or min(wanted) < 0:
        raise ValueError(f"indices must name at least one frame and none below 0, got {wanted}")
    places: dict[int, list[int]] = {}
    for place, index in enumerate(wanted):
        places.setdefault(index, []).append(place)
    frames: np.ndarray | None = None
    once = sorted(places)
    each = each_frame(path, once, origin=origin, field=field, content=content)
    for index, pixels in zip(once, each, strict=True):
        if frames is None:
            frames = np.empty((len(wanted), *pixels.shape), dtype=np.uint8)
        frames[places[index]] = pixels
    assert frames is not None
    return frames


def each_frame(
    path: Path,
    indices: Sequence[int],
    *,
    origin: Origin | None = None,
    field: str | None = None,
    content: bytes | None = None,
) -> Iterator[np.ndarray]:
    """The frames at ``indices`` one after the other; no other frame is held.

    Args:
        path: The video file.
        indices: Which frames, strictly ascending.
        origin: The sample that names the file, for the message.
        field: The field that names the file, for the message.
        content: The bytes of the file, where they stand in the sample.

    Yields:
        pixels: (height, width, 3) uint8. RGB, upright.

    Raises:
        MediaError: As `load_frames`.
    """
    file = MediaFile(path=path, origin=origin, field=field, content=content)
    num_given = 0
    for timeline in _timelines(file, indices):
        try:
            for pixels in _seeked(file, indices[num_given:], timeline):
                num_given += 1
                yield pixels
            return
        except _MismatchError:
            continue
    yield from _in_order(file, indices[num_given:])


def _timelines(file: MediaFile, indices: Sequence[int]) -> Iterator[Timeline]:
    """Timelines to try, the one that costs less first; none where nothing would be skipped."""
    gaps = np.diff(indices, prepend=0)
    if gaps.max() <= MIN_SKIPPED_FRAMES:
        return
    with opened_video(file) as (container, stream):
        first = next(decoded(container), None)
        indexed = indexed_timeline(stream, None if first is None else first.pts)
    if first is None:
        return
    if indexed is not None:
        yield indexed
    of_packets = read_packets(file).timeline
    if of_packets is not None and of_packets.ticks[0] == first.pts:
        yield of_packets


def _seeked(file: MediaFile, indices: Sequence[int], timeline: Timeline) -> Iterator[np.ndarray]:
    """The frames at ``indices``, each decoded from a key frame before it.

    Raises:
        _MismatchError: A frame is another one than the timeline says, or is not there.
    """
    if indices[-1] >= len(timeline.ticks):
        raise _MismatchError
    with opened_video(file) as (container, stream):
        size = stream.height, stream.width
        decoder, position = _checked(decoded(container), timeline, first=0), 0
        for index in indices:
            sought = _sought(container, stream, timeline, index, position)
            decoder = decoder if sought is None else sought
            for place, frame in decoder:
                if place == index:
                    position = place + 1
                    yield upright_pixels(frame, size, file)
                    break
            else:
                raise _MismatchError


def _sought(
    container: InputContainer, stream: VideoStream, timeline: Timeline, index: int, position: int
) -> Iterator[tuple[int, VideoFrame]] | None:
    """Frames from the last key frame up to ``index`` on; None where decoding on is shorter.

    Raises:
        _MismatchError: No key frame is reached that stands before it.
    """
    before = int(np.searchsorted(timeline.keys, index, side="right")) - 1
    if before < 0 or timeline.keys[before] - position <= MIN_SKIPPED_FRAMES:
        return None
    # Some containers (MPEG-TS) come out after the place that they are sent to.
    for key in timeline.keys[max(before - _NUM_TRIES + 1, 0) : before + 1][::-1]:
        container.seek(int(timeline.ticks[key]), stream=stream, backward=True, any_frame=False)
        decoder = _checked(decoded(container), timeline, first=None)
        found = next(decoder, None)
        if found is not None and found[0] <= index:
            return chain([found], decoder)
    raise _MismatchError


def _checked(
    frames: Iterator[VideoFrame], timeline: Timeline, *, first: int | None
) -> Iterator[tuple[int, VideoFrame]]:
    """Frames with their indices, each compared with what the timeline has next.

    Args:
        frames: The decoder.
        timeline: When frames are shown.
        first: Index of the first; None: frames begin with the next key frame.
    """
    expected = first
    try:
        for frame in frames:
            if expected is None:
                # What is shown before a key frame may refer to frames that were not decoded.
                if not frame.key_frame or frame.pts is None:
                    continue
                expected = int(np.searchsorted(timeline.ticks, frame.pts))
            if expected >= len(timeline.ticks) or frame.pts != timeline.ticks[expected]:
                raise _MismatchError
            yield expected, frame
            expected += 1
    except FFmpegError as error:
        # What is broken is said by decoding in order, which also knows how far it came.
        raise _MismatchError from error


def _in_order(file: MediaFile, indices: Sequence[int]) -> Iterator[np.ndarray]:
    """The frames at ``indices``, decoded from the first frame to the last that is wanted."""
    wanted, last = set(indices), indices[-1]
    num_decoded, failure = 0, None
    with opened_video(file) as (container, stream):
        num_promised, size = stream.frames, (stream.height, stream.width)
        try:
            for index, frame in enumerate(decoded(container)):
                num_decoded = index + 1
                if index in wanted:
                    yield upright_pixels(frame, size, file)
                if index == last:
                    return
        except FFmpegError as error:
            failure = error
    promised = f", the header promises {num_promised}" if num_promised else ""
    reason = f" ({failure.strerror})" if failure else ""
    what = f"has {num_decoded} frames that decode{promised}; frame {last} is not there{reason}."
    raise file.error(what, fix=FIX) from failure
