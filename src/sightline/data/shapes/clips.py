"""Short videos: shapes that move along lines, and shapes that appear and stay."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.codec import codecs_available
from numpy.typing import NDArray
from PIL import Image

from sightline.data.shapes.drawing import PixelBox, draw_background, draw_mask, mask_box, paint
from sightline.data.shapes.figures import NUM_TRIES, gap_pixels, sample_labels, size_range

DIRECTIONS: dict[str, tuple[int, int]] = {
    "left": (-1, 0),
    "right": (1, 0),
    "up": (0, -1),
    "down": (0, 1),
}
# MPEG-4 part 2 is in every FFmpeg; H.264 is in the wheels of PyAV and not in every other build.
# Without mbtree: for pictures this small, x264 reads memory there that nobody wrote, and the same
# frames become other files.
CODECS = {
    "libx264": {"crf": "16", "preset": "veryfast", "x264-params": "mbtree=0"},
    "mpeg4": {"qscale": "3"},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Track:
    """A figure and its way through a video.

    Attributes:
        colour: Its colour.
        shape: Its shape.
        mask: What it covers of each pixel of its square.
        corners: (num_frames, 2) int64. Left and top of its square in every frame, pixels.
        direction: Where it moves; None: it stands still.
        appears_seconds: Whole seconds after which it appears; 0: it is there from the start.
        first_frame: The first frame that shows it.
    """

    colour: str
    shape: str
    mask: Image.Image
    corners: NDArray[np.int64]
    direction: str | None
    appears_seconds: int
    first_frame: int

    @property
    def label(self) -> str:
        """Colour and shape: ``blue square``."""
        return f"{self.colour} {self.shape}"

    def boxes(self) -> list[PixelBox | None]:
        """Its half-open box in every frame, pixels of the file; None before it appears."""
        x1, y1, x2, y2 = mask_box(self.mask)
        return [
            None if frame < self.first_frame else (x1 + left, y1 + top, x2 + left, y2 + top)
            for frame, (left, top) in enumerate(self.corners.tolist())
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """The tracks of a video, the one that is asked about first, and its size."""

    tracks: tuple[Track, ...]
    height: int
    width: int
    num_frames: int
    fps: float


def whole_seconds(num_frames: int, fps: float) -> list[int]:
    """The whole seconds at which something may appear and still be seen in two frames.

    >>> whole_seconds(24, 8.0)
    [1, 2]
    """
    return [
        second
        for second in range(1, math.ceil(num_frames / fps))
        if _frame_at(second, fps) <= num_frames - 2
    ]


def sample_clip(
    rng: np.random.Generator,
    *,
    size: tuple[int, int],
    num_frames: int,
    fps: float,
    max_shapes: int,
    late: int | None,
) -> Clip:
    """A video of 1 to ``max_shapes`` figures that never touch.

    Args:
        rng: Where the choices come from.
        size: Height and width, pixels.
        num_frames: Frames of the video, at least 2.
        fps: Frames per second.
        max_shapes: Most figures.
        late: Which figure appears after some seconds and stands still, from 0; None: none does.
    """
    count = int(rng.integers(1, max_shapes + 1))
    side = size_range(*size, count, largest=0.32)
    seconds = whole_seconds(num_frames, fps)
    tracks: list[Track] = []
    for index, (colour, shape) in enumerate(sample_labels(rng, count)):
        second = int(rng.choice(seconds)) if index == late and seconds else 0
        way = _free_way(rng, tracks, size, side, num_frames, moves=second == 0)
        if way is None:
            continue
        figure_size, corners, direction = way
        track = Track(
            colour=colour,
            shape=shape,
            mask=draw_mask(shape, figure_size),
            corners=corners,
            direction=direction,
            appears_seconds=second,
            first_frame=_frame_at(second, fps),
        )
        tracks.append(track)
    height, width = size
    return Clip(tracks=tuple(tracks), height=height, width=width, num_frames=num_frames, fps=fps)


def draw_frames(rng: np.random.Generator, clip: Clip) -> Iterator[Image.Image]:
    """The frames of a video, one after the other, on one background."""
    background = draw_background(rng, clip.height, clip.width)
    for frame in range(clip.num_frames):
        canvas = background.copy()
        for track in clip.tracks:
            if frame >= track.first_frame:
                left, top = track.corners[frame].tolist()
                paint(canvas, track.mask, track.colour, left, top)
        yield canvas


def pick_codec() -> str:
    """The first of `CODECS` that this PyAV can write."""
    return next(codec for codec in CODECS if codec in codecs_available)


def write_video(
    path: Path, frames: Iterator[Image.Image], *, size: tuple[int, int], fps: float, codec: str
) -> None:
    """Write frames as an MP4 file with the pixel format yuv420p.

    Args:
        path: The file.
        frames: Pictures of mode RGB, all of that size.
        size: Height and width, even, pixels.
        fps: Frames per second.
        codec: One of `CODECS`.
    """
    rate = Fraction(fps).limit_denominator(1001)
    # bitexact keeps the library's version and the date out of the file.
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(codec, rate=rate, options=CODECS[codec])
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(frame))))
        container.mux(stream.encode(None))


def _frame_at(second: int, fps: float) -> int:
    """The first frame at or after a second; the small term takes up the rounding of the product."""
    return math.ceil(second * fps - 1e-9)


def _free_way(
    rng: np.random.Generator,
    tracks: list[Track],
    size: tuple[int, int],
    side: tuple[int, int],
    num_frames: int,
    *,
    moves: bool,
) -> tuple[int, NDArray[np.int64], str | None] | None:
    """Side, corners and direction of a figure that touches no other at any time."""
    gap = gap_pixels(*size)
    for _ in range(NUM_TRIES):
        figure_size = int(rng.integers(side[0], side[1] + 1))
        direction = str(rng.choice(list(DIRECTIONS))) if moves else None
        corners = _line(rng, size, figure_size, direction, num_frames, gap)
        if not any(_meet(corners, figure_size, other, gap) for other in tracks):
            return figure_size, corners, direction
    return None


def _line(
    rng: np.random.Generator,
    size: tuple[int, int],
    figure_size: int,
    direction: str | None,
    num_frames: int,
    gap: int,
) -> NDArray[np.int64]:
    """(num_frames, 2) int64. Left and top along a straight line inside the frame."""
    room = np.array([size[1], size[0]]) - figure_size - 2 * gap
    step = np.array((0, 0) if direction is None else DIRECTIONS[direction])
    travel = step * room * rng.uniform(0.55, 0.95)
    low = np.maximum(0, -travel)
    start = low + rng.uniform(0, 1, size=2) * (room - np.abs(travel))
    time = np.linspace(0, 1, num_frames)[:, None]
    return np.rint(start + travel * time).astype(np.int64) + gap


def _meet(corners: NDArray[np.int64], figure_size: int, other: Track, gap: int) -> bool:
    distance = corners - other.corners
    near = (distance < other.mask.width + gap) & (-distance < figure_size + gap)
    return bool(near.all(axis=1).any())
