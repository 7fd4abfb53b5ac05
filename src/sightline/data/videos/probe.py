"""What a video file is, from its header: size, number of frames, and when they are shown."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from sightline.data.conversation import Origin
from sightline.data.formats.media import MediaFile
from sightline.data.images import MAX_ASPECT_RATIO
from sightline.data.videos.files import FIX, decoded, opened_video, quarter_turns
from sightline.data.videos.timeline import Timeline, indexed_timeline, read_packets
from sightline.geometry import FrameTimes

# Ten days: a clock beyond that is broken.
_MAX_SECONDS = 864_000.0


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoInfo:
    """What the container says of a video.

    Attributes:
        num_frames: Frames in the file.
        fps: Average frames a second.
        height: Height in pixels, upright.
        width: Width in pixels, upright.
        duration_seconds: ``num_frames / fps``.
        times: When the frames are shown; None where frame i is shown ``i / fps`` seconds after the
            first.
        quarter_turns: Quarter turns, counter-clockwise, that bring a decoded frame upright.
        is_plain: Whether the reader of transformers finds the same frames and times: the container
            states their number, the rate is constant, and nothing is turned.
    """

    num_frames: int
    fps: float
    height: int
    width: int
    duration_seconds: float
    times: FrameTimes | None = None
    quarter_turns: int = 0
    is_plain: bool = True


def probe_video(
    path: Path,
    *,
    origin: Origin | None = None,
    field: str | None = None,
    content: bytes | None = None,
) -> VideoInfo:
    """What the header says of a video. One frame is decoded, for its rotation.

    A file whose index does not show that its frames are evenly spaced (Matroska, WebM, variable
    rate) has its packets read, of which nothing is decoded.

    Args:
        path: The video file.
        origin: The sample that names it, for the message.
        field: The field that names it, for the message.
        content: The bytes of the file, where they stand in the sample.

    Raises:
        MediaError: It is missing, no video, broken, of an impossible size, or has no frames, or
            neither a frame rate nor times.

    Reference:
        The metadata of ``read_video_pyav`` in transformers 5.23, checked in
        tests/unit/data/test_videos.py.
    """
    file = MediaFile(path=path, origin=origin, field=field, content=content)
    with opened_video(file) as (container, stream):
        num_stated, rate = stream.frames, stream.average_rate
        height, width = stream.height, stream.width
        first = next(decoded(container), None)
        timeline = indexed_timeline(stream, None if first is None else first.pts)
    if first is None:
        raise file.error("has no frame that decodes.", fix=FIX)
    turns = quarter_turns(first)
    if turns % 2:
        height, width = width, height
    if max(height, width) > MAX_ASPECT_RATIO * min(height, width):
        what = f"is {width} x {height} pixels; the aspect ratio may be up to {MAX_ASPECT_RATIO}."
        raise file.error(what, fix=FIX)
    num_frames = num_stated
    if timeline is None:
        packets = read_packets(file)
        num_frames, timeline = packets.num_frames, packets.timeline
    steady_rate, times = _rate(timeline, rate, num_frames, file)
    duration_seconds = float(num_frames / steady_rate)
    if duration_seconds > _MAX_SECONDS:
        what = f"states that its {num_frames} frames last {duration_seconds:,.0f} seconds."
        raise file.error(what, fix=FIX, code="media.shape")
    return VideoInfo(
        num_frames=num_frames,
        fps=float(steady_rate),
        height=height,
        width=width,
        duration_seconds=duration_seconds,
        times=times,
        quarter_turns=turns,
        is_plain=times is None and num_frames == num_stated and turns == 0,
    )


def _rate(
    timeline: Timeline | None, stated: Fraction | None, num_frames: int, file: MediaFile
) -> tuple[Fraction, FrameTimes | None]:
    """Frames a second, and the times where they do not follow from it."""
    is_stated = stated is not None and stated > 0
    if timeline is None and not is_stated:
        what = "states no frame rate, so the time of its frames is unknown."
        raise file.error(what, fix="Write the file anew with a constant frame rate.")
    if stated is not None and is_stated and (timeline is None or timeline.is_steady(stated)):
        return stated, None
    assert timeline is not None
    times = timeline.times()
    return Fraction(num_frames, times.num_ticks) / timeline.time_base, times
