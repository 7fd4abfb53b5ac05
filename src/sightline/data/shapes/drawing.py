"""How a shape and a background become pixels."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

PixelBox = tuple[int, int, int, int]
Rgb = tuple[int, int, int]

COLOURS: dict[str, Rgb] = {
    "red": (219, 48, 52),
    "orange": (242, 125, 22),
    "yellow": (240, 190, 0),
    "green": (40, 158, 78),
    "blue": (36, 98, 214),
    "purple": (124, 58, 188),
    "pink": (240, 100, 172),
    "black": (44, 48, 58),
}
SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross", "ring", "heart")

# Pairs of pale colours between which a background runs.
BACKGROUNDS: tuple[tuple[Rgb, Rgb], ...] = (
    ((243, 246, 251), (214, 225, 241)),
    ((252, 247, 238), (239, 226, 207)),
    ((241, 248, 241), (214, 232, 219)),
    ((247, 243, 251), (226, 217, 239)),
    ((250, 250, 249), (224, 225, 228)),
    ((240, 249, 250), (208, 231, 234)),
)
GRAIN = 2
MAX_SUPERSAMPLING = 8
MAX_CANVAS_PIXELS = 4096
HALF_COVERED = 128


def draw_mask(shape: str, size: int) -> Image.Image:
    """The part of each pixel that a shape covers, 0 to 255.

    Args:
        shape: One of `SHAPES`.
        size: Side of the square that the shape fills, pixels.

    Returns:
        A picture of mode L, ``size`` by ``size``.
    """
    factor = max(1, min(MAX_SUPERSAMPLING, MAX_CANVAS_PIXELS // size))
    side = size * factor
    canvas = Image.new("L", (side, side))
    draw = ImageDraw.Draw(canvas)
    for outline, fill in zip(_outlines(shape), (255, 0), strict=False):
        draw.polygon([(x * (side - 1), y * (side - 1)) for x, y in outline], fill=fill)
    return canvas.reduce(factor)


def mask_box(mask: Image.Image) -> PixelBox:
    """The smallest half-open box around the pixels that are covered by at least half.

    >>> mask_box(Image.new("L", (10, 6), 255))
    (0, 0, 10, 6)
    """
    box = mask.point([255 if cover >= HALF_COVERED else 0 for cover in range(256)]).getbbox()
    assert box is not None, "a shape of at least 8 pixels covers some pixel by half"
    return box


def paint(picture: Image.Image, mask: Image.Image, colour: str, left: int, top: int) -> None:
    """Lay a shape on a picture, a little lighter at its top than at its bottom."""
    size = mask.height
    light = np.linspace(0.16, -0.14, size, dtype=np.float32)[:, None]
    base = np.asarray(COLOURS[colour], dtype=np.float32)[None, :]
    shaded = np.where(light > 0, base + (255 - base) * light, base * (1 + light))
    column = Image.fromarray(np.rint(shaded).astype(np.uint8)[:, None, :])
    picture.paste(column.resize((mask.width, size), Image.Resampling.NEAREST), (left, top), mask)


def draw_background(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    """A soft gradient with a little grain."""
    first, second = BACKGROUNDS[int(rng.integers(len(BACKGROUNDS)))]
    angle = float(rng.uniform(0, 2 * math.pi))
    x = np.linspace(-1, 1, width, dtype=np.float32) * math.cos(angle)
    y = np.linspace(-1, 1, height, dtype=np.float32) * math.sin(angle)
    reach = abs(math.cos(angle)) + abs(math.sin(angle))
    share = (y[:, None] + x[None, :]) / (2 * reach) + 0.5
    grain = rng.integers(-GRAIN, GRAIN + 1, size=(height, width), dtype=np.int8)
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    # One channel at a time: a picture may have 67 million pixels.
    for channel, (start, end) in enumerate(zip(first, second, strict=True)):
        pixels[..., channel] = np.clip(share * (end - start) + start + grain, 0, 255)
    return Image.fromarray(pixels)


@cache
def _outlines(shape: str) -> tuple[tuple[tuple[float, float], ...], ...]:
    """Outline of a shape and, for a ring, of its hole, in a square of side one."""
    if shape == "ring":
        ring = _regular(360)
        return ring, tuple((0.5 + (x - 0.5) * 0.52, 0.5 + (y - 0.5) * 0.52) for x, y in ring)
    points = {
        "circle": lambda: _regular(360),
        "square": lambda: ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)),
        "triangle": lambda: ((0.5, 0.0), (1.0, 1.0), (0.0, 1.0)),
        "diamond": lambda: ((0.5, 0.0), (1.0, 0.5), (0.5, 1.0), (0.0, 0.5)),
        "star": _star,
        "cross": _cross,
        "heart": _heart,
    }
    return (_filling(points[shape]()),)


def _filling(points: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    """The points stretched until they touch all four sides of the square."""
    array = np.asarray(points, dtype=np.float64)
    low, high = array.min(axis=0), array.max(axis=0)
    return tuple((float(x), float(y)) for x, y in (array - low) / (high - low))


def _regular(num_corners: int) -> tuple[tuple[float, float], ...]:
    angles = [2 * math.pi * corner / num_corners for corner in range(num_corners)]
    return tuple((0.5 + math.sin(angle) / 2, 0.5 - math.cos(angle) / 2) for angle in angles)


def _star() -> tuple[tuple[float, float], ...]:
    corners = _regular(10)
    return tuple(
        (x, y) if index % 2 == 0 else (0.5 + (x - 0.5) * 0.45, 0.5 + (y - 0.5) * 0.45)
        for index, (x, y) in enumerate(corners)
    )


def _cross() -> tuple[tuple[float, float], ...]:
    near, far = 0.33, 0.67
    return (
        *((near, 0.0), (far, 0.0), (far, near), (1.0, near), (1.0, far), (far, far)),
        *((far, 1.0), (near, 1.0), (near, far), (0.0, far), (0.0, near), (near, near)),
    )


def _heart() -> tuple[tuple[float, float], ...]:
    angles = [2 * math.pi * step / 180 for step in range(180)]
    return tuple(
        (
            16 * math.sin(angle) ** 3,
            -13 * math.cos(angle)
            + 5 * math.cos(2 * angle)
            + 2 * math.cos(3 * angle)
            + math.cos(4 * angle),
        )
        for angle in angles
    )
