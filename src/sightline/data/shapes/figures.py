"""Shapes with a colour and a place: what stands in a picture, before it is drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from sightline.data.shapes.drawing import (
    COLOURS,
    SHAPES,
    PixelBox,
    draw_background,
    draw_mask,
    mask_box,
    paint,
)

MIN_FIGURE_PIXELS = 8
NUM_LABELS = len(COLOURS) * len(SHAPES)
NUM_TRIES = 80


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A coloured shape at a place.

    Attributes:
        colour: One of `COLOURS`.
        shape: One of `SHAPES`.
        left: First column of its square, pixels.
        top: First row of its square, pixels.
        mask: What it covers of each pixel of its square.
    """

    colour: str
    shape: str
    left: int
    top: int
    mask: Image.Image

    @property
    def label(self) -> str:
        """Colour and shape: ``red circle``. No two figures of a picture share one."""
        return f"{self.colour} {self.shape}"

    @property
    def box(self) -> PixelBox:
        """(x1, y1, x2, y2), half-open: x2 is the last column plus one. Pixels of the file."""
        x1, y1, x2, y2 = mask_box(self.mask)
        return x1 + self.left, y1 + self.top, x2 + self.left, y2 + self.top


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """The figures of a picture, left to right, and the size of the picture in pixels."""

    figures: tuple[Figure, ...]
    height: int
    width: int


def sample_labels(rng: np.random.Generator, count: int) -> list[tuple[str, str]]:
    """Different (colour, shape) pairs."""
    colours = list(COLOURS)
    chosen = rng.permutation(NUM_LABELS)[:count]
    return [
        (colours[int(number) // len(SHAPES)], SHAPES[number % len(SHAPES)]) for number in chosen
    ]


def size_range(height: int, width: int, count: int, *, largest: float) -> tuple[int, int]:
    """Smallest and largest side of a figure where ``count`` of them share a picture, pixels.

    Args:
        height: Of the picture, pixels.
        width: Of the picture, pixels.
        count: Figures in the picture.
        largest: Largest side as a part of the picture's shorter side.

    >>> size_range(224, 224, 3, largest=0.42)
    (47, 94)
    """
    high = min(largest * min(height, width), 0.75 * math.sqrt(height * width / count))
    high_pixels = max(MIN_FIGURE_PIXELS, int(high))
    return max(MIN_FIGURE_PIXELS, high_pixels // 2), high_pixels


def gap_pixels(height: int, width: int) -> int:
    """The distance that figures keep from each other and from the edge, pixels."""
    return max(2, round(0.025 * min(height, width)))


def sample_picture(
    rng: np.random.Generator, *, height: int, width: int, max_shapes: int
) -> Picture:
    """A picture of 1 to ``max_shapes`` figures, none of which touch.

    A figure that finds no free place is left out; the first always finds one.
    """
    count = int(rng.integers(1, max_shapes + 1))
    gap = gap_pixels(height, width)
    low, high = size_range(height, width, count, largest=0.42)
    squares: list[PixelBox] = []
    figures: list[Figure] = []
    for colour, shape in sample_labels(rng, count):
        square = _free_square(rng, squares, (height, width), (low, high), gap)
        if square is None:
            continue
        squares.append(square)
        left, top, right, _ = square
        mask = draw_mask(shape, right - left)
        figures.append(Figure(colour=colour, shape=shape, left=left, top=top, mask=mask))
    ordered = tuple(sorted(figures, key=lambda figure: figure.box))
    return Picture(figures=ordered, height=height, width=width)


def draw_picture(rng: np.random.Generator, picture: Picture) -> Image.Image:
    """The picture as pixels, on a background of its own."""
    canvas = draw_background(rng, picture.height, picture.width)
    for figure in picture.figures:
        paint(canvas, figure.mask, figure.colour, figure.left, figure.top)
    return canvas


def _free_square(
    rng: np.random.Generator,
    taken: list[PixelBox],
    picture_size: tuple[int, int],
    sizes: tuple[int, int],
    gap: int,
) -> PixelBox | None:
    height, width = picture_size
    low, high = sizes
    for attempt in range(NUM_TRIES):
        # The longer it takes, the smaller the figure.
        ceiling = high - (high - low) * attempt // NUM_TRIES
        size = int(rng.integers(low, ceiling + 1))
        left = int(rng.integers(gap, width - size - gap + 1))
        top = int(rng.integers(gap, height - size - gap + 1))
        square = (left, top, left + size, top + size)
        if not any(_near(square, other, gap) for other in taken):
            return square
    return None


def _near(one: PixelBox, other: PixelBox, gap: int) -> bool:
    return (
        one[0] < other[2] + gap
        and other[0] < one[2] + gap
        and one[1] < other[3] + gap
        and other[1] < one[3] + gap
    )
