"""Boxes in answers, found and taken back to the pixels of the file."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from sightline.geometry import Box, BoxFrame, to_file_pixels

_JSON_LIST = re.compile(r"\[.*\]", re.DOTALL)
_OBJECT = re.compile(r"\{[^{}]*\}")


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
    """Boxes written as JSON objects with ``bbox_2d``, in the space they were written in.

    Broken JSON around an object does not hide the object: an answer that was cut still shows
    the boxes it had finished.

    >>> find_boxes('[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}]')
    [LabelledBox(label='cat', box=(1.0, 2.0, 3.0, 4.0))]
    """
    found = []
    for item in _objects(text):
        box = item.get("bbox_2d")
        if isinstance(box, list) and len(box) == 4 and all(_is_number(side) for side in box):
            x1, y1, x2, y2 = (float(side) for side in box)
            found.append(LabelledBox(label=str(item.get("label", "")), box=(x1, y1, x2, y2)))
    return found


def boxes_in_file(text: str, frame: BoxFrame) -> list[dict[str, Any]]:
    """Boxes of an answer as records, in pixels of the picture's file."""
    return [
        {"label": item.label, "box": [round(side, 2) for side in to_file_pixels(item.box, frame)]}
        for item in find_boxes(text)
    ]


def _objects(text: str) -> list[dict[str, Any]]:
    whole = _JSON_LIST.search(text)
    if whole is not None:
        parsed = _parse(whole.group())
        if isinstance(parsed, list):
            return [item for item in parsed if isinstance(item, dict)]
    pieces = [_parse(match.group()) for match in _OBJECT.finditer(text)]
    return [item for item in pieces if isinstance(item, dict)]


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
