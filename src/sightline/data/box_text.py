"""Boxes and points that stand in a text, in whatever form a family or its data write them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# Sides beyond this are no pixels, and would overflow on the way to the file's.
_LARGEST_SIDE = 1e9
# The innermost objects: whatever stands around them, finished or cut, does not matter.
_OBJECT = re.compile(r"\{[^{}]*\}")
_NUM_NUMBERS = {"bbox_2d": 4, "point_2d": 2}
# A name holds for the boxes behind it. Numbers of more digits are no sides.
_SIDE = r"-?\d{1,10}(?:\.\d{1,10})?"
_PAIR = rf"\(\s*({_SIDE})\s*,\s*({_SIDE})\s*\)"
_TOKENS = re.compile(
    r"<\|object_ref_start\|>(?P<label>.*?)<\|object_ref_end\|>"
    rf"|<\|box_start\|>\s*{_PAIR}\s*(?:,\s*{_PAIR}\s*)?<\|box_end\|>",
    flags=re.DOTALL,
)
_LIST = re.compile(rf"\[\s*{_SIDE}\s*,\s*{_SIDE}\s*(?:,\s*{_SIDE}\s*,\s*{_SIDE}\s*)?\]")


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenBox:
    """A box or a point of a text.

    Attributes:
        label: What it is said to be; empty when nothing is said.
        numbers: x1, y1, x2, y2, or x, y, in the space they were written in.
        start: First character of what it was read from.
        stop: Character behind it.
    """

    label: str
    numbers: tuple[float, ...]
    start: int
    stop: int


def find_written(text: str, *, bare: bool = False) -> list[WrittenBox]:
    """Boxes and points of a text, in their order.

    Read are JSON objects with ``bbox_2d`` or ``point_2d``, and Qwen2-VL's own tokens,
    ``<|object_ref_start|>cat<|object_ref_end|><|box_start|>(1,2),(3,4)<|box_end|>``. Broken JSON
    around an object does not hide the object: an answer that was cut still shows the boxes it had
    finished.

    Args:
        text: Any text.
        bare: Whether a list of two or four numbers is one wherever it stands, too.

    >>> [(box.label, box.numbers) for box in find_written('{"point_2d": [1, 2], "label": "cat"}')]
    [('cat', (1.0, 2.0))]
    >>> [box.numbers for box in find_written("at [1, 2, 3, 4]", bare=True)]
    [(1.0, 2.0, 3.0, 4.0)]
    """
    found = [*_in_objects(text), *_in_tokens(text)]
    if bare:
        taken = [(box.start, box.stop) for box in found]
        found += [
            box
            for box in _in_lists(text)
            if not any(start <= box.start < stop for start, stop in taken)
        ]
    return sorted(found, key=lambda box: box.start)


def _in_objects(text: str) -> Iterator[WrittenBox]:
    for match in _OBJECT.finditer(text):
        item = _parse(match.group())
        label = "" if item.get("label") is None else str(item["label"])
        for name, count in _NUM_NUMBERS.items():
            numbers = _numbers(item.get(name), count)
            if numbers is not None:
                yield WrittenBox(
                    label=label, numbers=numbers, start=match.start(), stop=match.end()
                )


def _in_tokens(text: str) -> Iterator[WrittenBox]:
    label = ""
    for match in _TOKENS.finditer(text):
        if match["label"] is not None:
            label = match["label"].strip()
            continue
        sides = [float(side) for side in match.groups()[1:] if side is not None]
        numbers = _numbers(sides, len(sides))
        if numbers is not None:
            yield WrittenBox(label=label, numbers=numbers, start=match.start(), stop=match.end())


def _in_lists(text: str) -> Iterator[WrittenBox]:
    for match in _LIST.finditer(text):
        sides = [float(side) for side in re.findall(_SIDE, match.group())]
        numbers = _numbers(sides, len(sides))
        if numbers is not None:
            yield WrittenBox(label="", numbers=numbers, start=match.start(), stop=match.end())


def _parse(text: str) -> dict[str, Any]:
    # A model may write anything: numbers of thousands of digits, brackets without end.
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {}


def _numbers(sides: Any, count: int) -> tuple[float, ...] | None:
    if not isinstance(sides, list) or len(sides) != count:
        return None
    numbers = [_number(side) for side in sides]
    known = tuple(number for number in numbers if number is not None)
    return known if len(known) == count else None


def _number(value: Any) -> float | None:
    """A number that can be a side in pixels, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Before float: an int may be too large for one. Not a number is within no bound.
    return float(value) if abs(value) <= _LARGEST_SIDE else None
