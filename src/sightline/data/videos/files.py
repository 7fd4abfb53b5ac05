"""An opened video file, its frames as pixels, and what is said where one is damaged.

Frames come upright: the display rotation that a phone writes is applied, as players, people who
annotate and torchcodec (the first choice of transformers 5) do. ``read_video_pyav`` of transformers
does not apply it; for a file without a rotation the frames are equal to its frames, bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from sightline.config import MAX_FILE_PIXELS
from sightline.data.formats.media import MediaFile

FIX = "Mend or replace the file, or leave the sample out."
# AVERROR_INVALIDDATA.
_INVALID_DATA = 1094995529
# FFmpeg itself would go on to 2 ** 31.
MAX_FRAME_PIXELS = MAX_FILE_PIXELS
# Of the decoder alone, since the file was opened: a file may say that it has frames without end.
MAX_DECODING_SECONDS = 600.0

_Item = TypeVar("_Item")


class _EndlessError(Exception):
    """The decoder has worked for longer than a file may take."""


@contextmanager
def opened_video(file: MediaFile) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its first video stream; what goes wrong inside becomes a MediaError.

    Raises:
        MediaError: The file is missing, no video or damaged, its frames are absurdly large, or it
            takes longer than `MAX_DECODING_SECONDS`.
    """
    try:
        # PyAV reads a path itself, faster than through Python's files.
        source = str(file.path) if file.content is None else file.open()
        # Titles in another encoding are none of a model's business.
        with av.open(source, mode="r", metadata_errors="replace") as container:
            if not container.streams.video:
                raise file.error("has no video stream.", fix=FIX)
            stream = container.streams.video[0]
            _refuse_unusable(stream, file)
            yield container, stream
    except FileNotFoundError as error:
        what, cause, code = "does not exist.", error, "media.missing"
    except (FFmpegError, OSError) as error:
        what, cause = f"is not a video, or is damaged: {error.strerror}.", error
        code = "media.damaged"
    except _EndlessError as error:
        what, cause = f"was not decoded after {MAX_DECODING_SECONDS:g} seconds.", error
        code = "media.slow"
    else:
        return
    raise file.error(what, fix=FIX, code=code) from cause


def decoded(container: InputContainer) -> Iterator[VideoFrame]:
    """The frames of the first video stream, from where the container stands.

    Raises:
        FFmpegError: One cannot be decoded.
    """
    with _streams_checked():
        yield from _in_time(container.decode(video=0))


def packets_of(container: InputContainer) -> Iterator[Packet]:
    """The packets of the first video stream.

    Raises:
        FFmpegError: The file cannot be read on.
    """
    with _streams_checked():
        yield from _in_time(container.demux(video=0))


def upright_pixels(frame: VideoFrame, size: tuple[int, int], file: MediaFile) -> np.ndarray:
    """One frame upright.

    Args:
        frame: The decoded frame.
        size: Height and width of the stream, before it is turned.
        file: The file, for the message.

    Returns:
        pixels: (height, width, 3) uint8 RGB.

    Raises:
        MediaError: It has another size than the stream.
    """
    if (frame.height, frame.width) != size:
        what = (
            f"has a frame of {frame.width} x {frame.height} pixels, the header says "
            f"{size[1]} x {size[0]}."
        )
        raise file.error(what, fix="Write the file anew with one size.")
    pixels = np.rot90(frame.to_ndarray(format="rgb24"), k=quarter_turns(frame))
    return np.ascontiguousarray(pixels)


def quarter_turns(frame: VideoFrame) -> int:
    """Quarter turns, counter-clockwise, that bring a frame upright: 0 to 3."""
    return round(frame.rotation / 90) % 4


def _in_time(items: Iterator[_Item]) -> Iterator[_Item]:
    """What is decoded, as long as that takes no longer than it may."""
    spent = 0.0
    while True:
        began = time.monotonic()
        item = next(items, None)
        spent += time.monotonic() - began
        if item is None:
            return
        if spent > MAX_DECODING_SECONDS:
            raise _EndlessError
        yield item


@contextmanager
def _streams_checked() -> Iterator[None]:
    try:
        yield
    except IndexError as error:
        # PyAV looks for a stream that began after the file was opened (a damaged MPEG-TS file) in
        # the list of those that were there.
        raise InvalidDataError(_INVALID_DATA, "a stream begins in its middle") from error


def _refuse_unusable(stream: VideoStream, file: MediaFile) -> None:
    # A codec that FFmpeg does not know has no context to ask.
    if stream.codec_context is None:
        raise file.error("has video in a codec that FFmpeg does not know.", fix=FIX)
    height, width = stream.height, stream.width
    if height < 1 or width < 1:
        raise file.error(f"has frames of {width} x {height} pixels.", fix=FIX, code="media.shape")
    if height * width > MAX_FRAME_PIXELS:
        what = (
            f"has frames of {width} x {height} pixels, {height * width:,} each; up to "
            f"{MAX_FRAME_PIXELS:,} are decoded."
        )
        raise file.error(what, fix=FIX, code="media.shape")
    # Frames inside may be larger than the header says.
    stream.codec_context.options = {"max_pixels": str(MAX_FRAME_PIXELS)}
