"""Boxes in answers, found and taken back to the pixels of the file."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from sightline.geometry import Box, BoxFrame, to_file_pixels

# Sides beyond this are no pixels, and would overflow on the way to the file's.
_LARGEST_SIDE = 1e9
# The innermost objects: whatever stands around them, finished or cut, does not matter.
_OBJECT = re.compile(r"\{[^{}]*\}")
# A name holds for the boxes behind it. Numbers of more digits are no sides.
_SIDE = r"-?\d{1,10}(?:\.\d{1,10})?"
_PAIR = rf"\(\s*({_SIDE})\s*,\s*({_SIDE})\s*\)"
_TOKENS = re.compile(
    r"<\|object_ref_start\|>(?P<label>.*?)<\|object_ref_end\|>"
    rf"|<\|box_start\|>\s*{_PAIR}\s*,\s*{_PAIR}\s*<\|box_end\|>",
    flags=re.DOTALL,
)


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
    """Boxes of an answer, in the space they were written in and in their order.

    Two forms are read: JSON objects with ``bbox_2d``, and Qwen2-VL's own tokens,
    ``<|object_ref_start|>cat<|object_ref_end|><|box_start|>(1,2),(3,4)<|box_end|>``. Broken JSON
    around an object does not hide the object: an answer that was cut still shows the boxes it had
    finished.

    >>> find_boxes('[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}]')
    [LabelledBox(label='cat', box=(1.0, 2.0, 3.0, 4.0))]
    """
    found: list[tuple[int, LabelledBox]] = []
    for match in _OBJECT.finditer(text):
        item = _parse(match.group())
        box = _box(item.get("bbox_2d"))
        if box is not None:
            label = "" if item.get("label") is None else str(item["label"])
            found.append((match.start(), LabelledBox(label=label, box=box)))
    label = ""
    for match in _TOKENS.finditer(text):
        if match["label"] is not None:
            label = match["label"].strip()
        else:
            box = _box([float(side) for side in match.groups()[1:]])
            if box is not None:
                found.append((match.start(), LabelledBox(label=label, box=box)))
    return [item for _, item in sorted(found, key=lambda pair: pair[0])]


def boxes_in_file(text: str, frame: BoxFrame) -> list[dict[str, Any]]:
    """Boxes of an answer as records, in pixels of the picture's file."""
    return [
        {"label": item.label, "box": [round(side, 2) for side in to_file_pixels(item.box, frame)]}
        for item in find_boxes(text)
    ]


def _parse(text: str) -> dict[str, Any]:
    # A model may write anything: numbers of thousands of digits, brackets without end.
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {}


def _box(sides: Any) -> Box | None:
    if not isinstance(sides, list) or len(sides) != 4:
        return None
    numbers = [_number(side) for side in sides]
    if any(number is None for number in numbers):
        return None
    x1, y1, x2, y2 = (number for number in numbers if number is not None)
    return x1, y1, x2, y2


def _number(value: Any) -> float | None:
    """A number that can be a side in pixels, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Before float: an int may be too large for one. Not a number is within no bound.
    return float(value) if abs(value) <= _LARGEST_SIDE else None
