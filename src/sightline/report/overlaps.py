"""How well the boxes of one answer fit its annotation, as `sightline evaluate` counts them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Boxes = Sequence[Mapping[str, Any]]
_Labelled = tuple[str, tuple[float, ...]]
_LEAST = 0.5


def mean_overlap(annotated: Boxes, predicted: Boxes) -> float | None:
    """Mean IoU of the annotated boxes with the predicted ones of their label, paired one to one.

    What the measure ``box_iou`` is of many answers; `evaluation` itself needs torch, which pages
    do without.

    Args:
        annotated: Boxes with ``label`` and ``box``; others, as points, are left out.
        predicted: The same of the answer.

    Returns:
        0 to 1, or None where no box is annotated.

    >>> mean_overlap([{"label": "cat", "box": [0, 0, 10, 20]}],
    ...              [{"label": "Cat ", "box": [0, 0, 10, 10]}])
    0.5
    """
    wanted, given = _boxes(annotated), _boxes(predicted)
    return sum(_paired(wanted, given)) / len(wanted) if wanted else None


def is_right(annotated: Boxes, predicted: Boxes) -> bool:
    """Whether as many boxes are predicted as annotated, and each annotated one has one of its own.

    Args:
        annotated: As `mean_overlap`.
        predicted: The same of the answer.
    """
    wanted, given = _boxes(annotated), _boxes(predicted)
    found = sum(overlap >= _LEAST for overlap in _paired(wanted, given))
    return len(wanted) == len(given) == found


def _paired(wanted: list[_Labelled], given: list[_Labelled]) -> list[float]:
    """IoU of the pairs of one label, the closest first, one to one."""
    pairs = sorted(
        (
            (_iou(one[1], other[1]), row, column)
            for row, one in enumerate(wanted)
            for column, other in enumerate(given)
            if one[0] == other[0]
        ),
        key=lambda pair: -pair[0],
    )
    rows: set[int] = set()
    columns: set[int] = set()
    found = []
    for overlap, row, column in pairs:
        if row not in rows and column not in columns:
            rows.add(row)
            columns.add(column)
            found.append(overlap)
    return found


def _boxes(items: Boxes) -> list[_Labelled]:
    found = []
    for item in items:
        if "box" in item:
            x1, y1, x2, y2 = (float(side) for side in item["box"])
            corners = (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
            found.append((str(item.get("label") or "").strip().casefold(), corners))
    return found


def _iou(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)
