"""Video files through PyAV: what the header says, and the frames that are asked for.

Frames come upright: the display rotation that a phone writes is applied, as players, people who
annotate and torchcodec (the first choice of transformers 5) do. ``read_video_pyav`` of transformers
does not apply it; for a file without a rotation the frames are equal to its frames, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from sightline.data.conversation import Origin
from sightline.data.formats.media import MediaFile
from sightline.data.images import MAX_ASPECT_RATIO

_FIX = "Mend or replace the file, or leave the sample out."


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoInfo:
    """What the container says of a video.

    Attributes:
        num_frames: Frames in the file.
        fps: Average frames a second.
        height: Height in pixels, upright.
        width: Width in pixels, upright.
        duration_seconds: ``num_frames / fps``.
    """

    num_frames: int
    fps: float
    height: int
    width: int
    duration_seconds: float


def probe_video(
    path: Path,
    *,
    origin: Origin | None = None,
    field: str | None = None,
    content: bytes | None = None,
) -> VideoInfo:
    """What the header says of a video. One frame is decoded, for its rotation.

    A container that does not state the number of frames (Matroska, WebM) has its packets counted,
    which reads the file and decodes nothing.

    Args:
        path: The video file.
        origin: The sample that names it, for the message.
        field: The field that names it, for the message.
        content: The bytes of the file, where they stand in the sample.

    Raises:
        MediaError: It is missing, no video, broken, or has no frames or no frame rate.

    Reference:
        The metadata of ``read_video_pyav`` in transformers 5.23, checked in
        tests/unit/data/test_videos.py.
    """
    file = MediaFile(path=path, origin=origin, field=field, content=content)
    with _opened(file) as (container, stream):
        num_frames, rate = stream.frames, stream.average_rate
        height, width = stream.height, stream.width
        first = next(container.decode(stream), None)
    if first is None:
        raise file.error("has no frame that decodes.", fix=_FIX)
    if rate is None or rate <= 0:
        what = "states no frame rate, so the time of its frames is unknown."
        raise file.error(what, fix="Write the file anew with a constant frame rate.")
    if _quarter_turns(first) % 2:
        height, width = width, height
    if max(height, width) > MAX_ASPECT_RATIO * min(height, width):
        what = f"is {width} x {height} pixels; the aspect ratio may be up to {MAX_ASPECT_RATIO}."
        raise file.error(what, fix=_FIX)
    num_frames = num_frames or _count_packets(file)
    return VideoInfo(
        num_frames=num_frames,
        fps=float(rate),
        height=height,
        width=width,
        duration_seconds=float(num_frames / rate),
    )


def load_frames(
    path: Path,
    indices: Sequence[int],
    *,
    origin: Origin | None = None,
    field: str | None = None,
    content: bytes | None = None,
) -> np.ndarray:
    """The frames at ``indices``, in that order; an index may come more than once.

    Decoding begins at the first frame and stops after the last one that is wanted. Only wanted
    frames are kept.

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
    file = MediaFile(path=path, origin=origin, field=field, content=content)
    places: dict[int, list[int]] = {}
    for place, index in enumerate(wanted):
        places.setdefault(index, []).append(place)
    frames: np.ndarray | None = None
    for index, pixels in _decoded(file, set(wanted)):
        if frames is None:
            frames = np.empty((len(wanted), *pixels.shape), dtype=np.uint8)
        frames[places[index]] = pixels
    assert frames is not None
    return frames


def _decoded(file: MediaFile, wanted: set[int]) -> Iterator[tuple[int, np.ndarray]]:
    """The wanted frames with their indices, in order; every one of them, or a MediaError."""
    last, num_decoded, failure = max(wanted), 0, None
    with _opened(file) as (container, stream):
        num_promised, size = stream.frames, (stream.height, stream.width)
        try:
            for index, frame in enumerate(container.decode(stream)):
                num_decoded = index + 1
                if index in wanted:
                    yield index, _pixels(frame, size, file)
                if index == last:
                    return
        except FFmpegError as error:
            failure = error
    promised = f", the header promises {num_promised}" if num_promised else ""
    reason = f" ({failure.strerror})" if failure else ""
    what = f"has {num_decoded} frames that decode{promised}; frame {last} is not there{reason}."
    raise file.error(what, fix=_FIX) from failure


def _count_packets(file: MediaFile) -> int:
    """Frames of a container that does not state them: one a packet, none decoded."""
    with _opened(file) as (container, stream):
        return sum(1 for packet in container.demux(stream) if packet.size > 0)


def _pixels(frame: VideoFrame, size: tuple[int, int], file: MediaFile) -> np.ndarray:
    """One frame upright: (height, width, 3) uint8."""
    if (frame.height, frame.width) != size:
        what = (
            f"has a frame of {frame.width} x {frame.height} pixels, the header says "
            f"{size[1]} x {size[0]}."
        )
        raise file.error(what, fix="Write the file anew with one size.")
    return np.rot90(frame.to_ndarray(format="rgb24"), k=_quarter_turns(frame))


def _quarter_turns(frame: VideoFrame) -> int:
    """Quarter turns, counter-clockwise, that bring a frame upright: 0 to 3."""
    return round(frame.rotation / 90) % 4


@contextmanager
def _opened(file: MediaFile) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its first video stream; what goes wrong inside becomes a MediaError."""
    try:
        # PyAV reads a path itself, faster than through Python's files.
        source = str(file.path) if file.content is None else file.open()
        with av.open(source, mode="r") as container:
            if not container.streams.video:
                raise file.error("has no video stream.", fix=_FIX)
            yield container, container.streams.video[0]
    except FileNotFoundError as error:
        what, cause, code = "does not exist.", error, "media.missing"
    except (FFmpegError, OSError) as error:
        what, cause = f"is not a video, or is damaged: {error.strerror}.", error
        code = "media.damaged"
    else:
        return
    raise file.error(what, fix=_FIX, code=code) from cause
