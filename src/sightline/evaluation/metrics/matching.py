"""Boxes matched with annotated ones, as COCO does: the surest first, each takes the best left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

Box = tuple[float, float, float, float]
_NEARLY_ONE = 1 - 1e-10


class Scored(NamedTuple):
    """A predicted box.

    Attributes:
        box: x1, y1, x2, y2, pixels of the file.
        score: How sure the model was, 0 to 1.
    """

    box: Box
    score: float


def iou(one: Box, other: Box) -> float:
    """Intersection over union; 0 where they do not overlap.

    Reference:
        pycocotools' ``bbIou``, to the last bit: sides are taken as corner and width.

    >>> iou((0, 0, 10, 10), (0, 0, 10, 20))
    0.5
    """
    ax, ay, aw, ah = one[0], one[1], one[2] - one[0], one[3] - one[1]
    bx, by, bw, bh = other[0], other[1], other[2] - other[0], other[3] - other[1]
    width = min(ax + aw, bx + bw) - max(ax, bx)
    height = min(ay + ah, by + bh) - max(ay, by)
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (aw * ah + bw * bh - shared)


def by_score(given: Sequence[Scored]) -> list[int]:
    """Places of the boxes, the surest first; those that are alike in their order."""
    return sorted(range(len(given)), key=lambda place: -given[place].score)


def matched(
    given: Sequence[Scored], wanted: Sequence[Box], thresholds: Sequence[float]
) -> list[list[bool]]:
    """Which predicted boxes find an annotated one, threshold by threshold.

    Args:
        given: Predicted boxes of one picture and label, the surest first.
        wanted: Annotated boxes of the same.
        thresholds: Least IoU of a match.

    Returns:
        (num_thresholds, num_given) Whether each found one that no surer box has taken.

    Reference:
        pycocotools' ``COCOeval.evaluateImg``: of two that fit equally well the later is taken.
    """
    table = [[iou(one.box, other) for other in wanted] for one in given]
    found = []
    for threshold in thresholds:
        taken = [False] * len(wanted)
        row = []
        for overlaps in table:
            best, place = min(threshold, _NEARLY_ONE), -1
            for number, overlap in enumerate(overlaps):
                if not taken[number] and overlap >= best:
                    best, place = overlap, number
            if place >= 0:
                taken[place] = True
            row.append(place >= 0)
        found.append(row)
    return found


def best_overlaps(given: Sequence[Box], wanted: Sequence[Box]) -> list[float]:
    """IoU of every annotated box with the predicted one that it is paired with; 0 without one.

    Pairs are made one to one, the closest first, whatever their IoU.
    """
    pairs = sorted(
        ((iou(one, other), i, j) for i, one in enumerate(given) for j, other in enumerate(wanted)),
        key=lambda pair: -pair[0],
    )
    found, used = [0.0] * len(wanted), set[int]()
    done = set[int]()
    for overlap, i, j in pairs:
        if i not in used and j not in done and overlap > 0:
            found[j] = overlap
            used.add(i)
            done.add(j)
    return found
