"""Boxes between the space of a picture's file and the space a family writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Box = tuple[float, float, float, float]


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
