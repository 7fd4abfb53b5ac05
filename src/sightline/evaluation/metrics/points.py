"""Points matched with annotated points and boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

REACH = 0.05
"""How far a point may lie from the annotated one, as a share of the picture's diagonal."""

Numbers = tuple[float, ...]


class Hits(NamedTuple):
    """How many points are found.

    Attributes:
        num_hits: Annotated points and boxes that a predicted point hits, each point one of them.
        num_wanted: Annotated points and boxes.
        num_given: Predicted points.
    """

    num_hits: int
    num_wanted: int
    num_given: int


def point_hits(
    given: Sequence[tuple[str, Numbers]],
    wanted: Sequence[tuple[str, Numbers]],
    diagonal: float,
) -> Hits:
    """Which annotated points are hit, label by label, the closest pairs first.

    A point hits a box that it lies in, and a point within `REACH` of the diagonal.

    Args:
        given: Labels and numbers of predicted points; of a box, its middle.
        wanted: Labels and numbers of annotated points and boxes.
        diagonal: Of the picture, pixels.

    >>> point_hits([("cat", (10, 10)), ("cat", (90, 90))], [("cat", (12, 10))], 100.0)
    Hits(num_hits=1, num_wanted=1, num_given=2)
    """
    pairs = sorted(
        (distance, i, j)
        for i, (label, point) in enumerate(given)
        for j, (other, target) in enumerate(wanted)
        if label == other and (distance := _distance(middle(point), target)) <= (REACH * diagonal)
    )
    used, done = set[int](), set[int]()
    for _, i, j in pairs:
        if i not in used and j not in done:
            used.add(i)
            done.add(j)
    return Hits(len(done), len(wanted), len(given))


def middle(numbers: Numbers) -> tuple[float, float]:
    """A point itself, or the middle of a box."""
    if len(numbers) == 2:
        return numbers[0], numbers[1]
    x1, y1, x2, y2 = numbers
    return (x1 + x2) / 2, (y1 + y2) / 2


def _distance(point: tuple[float, float], target: Numbers) -> float:
    """From a point to a point; 0 inside a box, and infinite outside of it."""
    if len(target) == 2:
        return math.dist(point, target)
    x1, y1, x2, y2 = target
    return 0.0 if x1 <= point[0] <= x2 and y1 <= point[1] <= y2 else math.inf
