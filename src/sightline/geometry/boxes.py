"""Boxes between the space of a picture's file and the space a family writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Box = tuple[float, float, float, float]

_FIRST_SIDEWAYS = 5
_MIRRORED_ACROSS = (2, 3, 6, 7)
_MIRRORED_DOWN = (3, 4, 7, 8)


@dataclass(frozen=True, kw_only=True, slots=True)
class BoxFrame:
    """What a box in a family's space refers to.

    Attributes:
        space: ``thousandths`` of each side, or ``resized_pixels``: pixels of the picture as the
            model sees it.
        file_height: Height of the picture in the file, pixels.
        file_width: Width of the picture in the file, pixels.
        resized_height: Height as the model sees it, pixels.
        resized_width: Width as the model sees it, pixels.
    """

    space: Literal["thousandths", "resized_pixels"]
    file_height: int
    file_width: int
    resized_height: int
    resized_width: int

    def _units(self) -> tuple[float, float]:
        """Width and height of the picture in the family's space."""
        if self.space == "thousandths":
            return 1000.0, 1000.0
        return float(self.resized_width), float(self.resized_height)


def turned_upright(x: float, y: float, orientation: int) -> tuple[float, float]:
    """A point on pixels as a file stores them, on the picture as it is shown.

    Args:
        x: From the left, as a share of the stored width.
        y: From the top, as a share of the stored height.
        orientation: EXIF orientation, 1 to 8.

    Returns:
        x, y: Shares of the shown width and height.

    Reference:
        ``PIL.ImageOps.exif_transpose``, checked in tests/unit/geometry/test_boxes.py.

    >>> turned_upright(0.25, 0.0, 6)
    (1.0, 0.25)
    """
    # Orientation 5 to 8 swap the axes; then x, y or both run the other way.
    if orientation >= _FIRST_SIDEWAYS:
        x, y = y, x
    return (
        1 - x if orientation in _MIRRORED_ACROSS else x,
        1 - y if orientation in _MIRRORED_DOWN else y,
    )


def to_file_pixels(box: Box, frame: BoxFrame) -> Box:
    """A box in the family's space, back in pixels of the file; each axis by its own factor.

    >>> frame = BoxFrame(space="thousandths", file_height=200, file_width=400,
    ...                  resized_height=196, resized_width=392)
    >>> to_file_pixels((250, 500, 500, 1000), frame)
    (100.0, 100.0, 200.0, 200.0)
    """
    width, height = frame._units()
    x, y = frame.file_width / width, frame.file_height / height
    return box[0] * x, box[1] * y, box[2] * x, box[3] * y


def from_file_pixels(box: Box, frame: BoxFrame) -> Box:
    """The inverse of `to_file_pixels`."""
    width, height = frame._units()
    x, y = width / frame.file_width, height / frame.file_height
    return box[0] * x, box[1] * y, box[2] * x, box[3] * y
