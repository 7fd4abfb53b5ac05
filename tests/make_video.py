"""Videos whose frames can be told apart, with times, codecs and key frames to order."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

HEIGHT, WIDTH = 48, 64


def picture(index: int) -> np.ndarray:
    """(48, 64, 3) uint8. A white bar that moves, over a grey that follows the index."""
    pixels = np.full((HEIGHT, WIDTH, 3), 40 + index * 37 % 160, dtype=np.uint8)
    left = index * 5 % (WIDTH - 8)
    pixels[8:40, left : left + 8] = (255, 255 - index % 200, index % 200)
    return pixels


def write_timed_video(
    path: Path,
    ticks: Sequence[int],
    *,
    ticks_per_second: int = 1000,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    muxer_options: dict[str, str] | None = None,
) -> Path:
    """A video of 64 x 48 pixels.

    Args:
        path: The file; its suffix is the container.
        ticks: When each frame is shown.
        ticks_per_second: The clock.
        codec: The encoder.
        options: Of the encoder.
        muxer_options: Of the container.
    """
    time_base = Fraction(1, ticks_per_second)
    with av.open(str(path), "w", options=muxer_options or {}) as container:
        stream = container.add_stream(codec, rate=ticks_per_second, options=options or {})
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.codec_context.time_base = time_base
        stream.time_base = time_base
        stream.codec_context.thread_count = 1
        for index, tick in enumerate(ticks):
            frame = av.VideoFrame.from_ndarray(picture(index), format="rgb24")
            frame.pts, frame.time_base = tick, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_steady_video(
    path: Path, num_frames: int, *, fps: int = 10, first_tick: int = 0, **kwargs: object
) -> Path:
    """As `write_timed_video`, with a constant rate."""
    ticks = range(first_tick, first_tick + num_frames)
    return write_timed_video(path, ticks, ticks_per_second=fps, **kwargs)  # type: ignore[arg-type]


def turn(path: Path, quarter_turns: int) -> Path:
    """The MP4 file with a display rotation in its track header, counter-clockwise."""
    one, minus = (1 << 16).to_bytes(4, "big"), (-1 << 16).to_bytes(4, "big", signed=True)
    zero, last = bytes(4), (1 << 30).to_bytes(4, "big")
    corners = {1: (zero, minus, one, zero), 2: (minus, zero, zero, minus)}[quarter_turns]
    a, b, c, d = corners
    data = path.read_bytes()
    upright = one + zero * 3 + one + zero * 3 + last
    begin = data.index(upright, data.index(b"tkhd"))
    matrix = a + b + zero + c + d + zero * 3 + last
    path.write_bytes(data[:begin] + matrix + data[begin + len(upright) :])
    return path
