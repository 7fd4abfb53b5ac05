"""The boxes of an answer on their picture, as a PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageOps

from sightline.records import write_bytes

_COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080")
# A line that is seen on a photograph of any size.
_SHARE_OF_SIDE = 250


def draw_boxes(picture: Path, boxes: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw boxes on a picture, upright, at its own size.

    Args:
        picture: The picture's file.
        boxes: ``label`` and ``box`` each: x1, y1, x2, y2 in pixels of the file as it is shown.
        path: Where the PNG goes.

    Raises:
        RunError: The file system refuses.
    """
    with Image.open(picture) as opened:
        shown = ImageOps.exif_transpose(opened).convert("RGB")
    draw = ImageDraw.Draw(shown)
    width = max(2, max(shown.size) // _SHARE_OF_SIDE)
    for number, item in enumerate(boxes):
        x1, y1, x2, y2 = item["box"]
        # A model may write corners in any order; Pillow takes one.
        corners = (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
        colour = _COLOURS[number % len(_COLOURS)]
        draw.rectangle(corners, outline=colour, width=width)
        if item["label"]:
            _label(draw, corners, item["label"], colour)
    written = io.BytesIO()
    shown.save(written, format="PNG")
    write_bytes(path, written.getvalue())


def _label(
    draw: ImageDraw.ImageDraw, corners: tuple[float, float, float, float], text: str, colour: str
) -> None:
    """The name of a box above it, or inside where the picture ends."""
    left, top, _, _ = corners
    _, above, _, below = draw.textbbox((left, top), text)
    up = below - above + 4
    at = (left, top - up if top >= up else top)
    draw.rectangle(draw.textbbox(at, text), fill=colour)
    draw.text(at, text, fill="white")
