"""Boxes in answers, found and taken back to the pixels of the file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sightline.data.box_text import find_written
from sightline.geometry import Box, BoxFrame, to_file_pixels


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledBox:
    """A box with its label.

    Attributes:
        label: What it is said to be; empty when nothing is said.
        box: x1, y1, x2, y2.
    """

    label: str
    box: Box


def find_boxes(text: str) -> list[LabelledBox]:
    """Boxes of an answer, in the space they were written in and in their order; no points.

    The forms are those of `sightline.data.box_text.find_written`.

    >>> find_boxes('[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}]')
    [LabelledBox(label='cat', box=(1.0, 2.0, 3.0, 4.0))]
    """
    found: list[LabelledBox] = []
    for written in find_written(text):
        if len(written.numbers) == 4:
            x1, y1, x2, y2 = written.numbers
            found.append(LabelledBox(label=written.label, box=(x1, y1, x2, y2)))
    return found


def boxes_in_file(text: str, frame: BoxFrame) -> list[dict[str, Any]]:
    """Boxes of an answer as records, in pixels of the picture's file."""
    return [
        {"label": item.label, "box": [round(side, 2) for side in to_file_pixels(item.box, frame)]}
        for item in find_boxes(text)
    ]
