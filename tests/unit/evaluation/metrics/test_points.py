"""Points in reach, inside boxes, and one for each."""

from __future__ import annotations

import pytest

from sightline.evaluation.metrics.points import Hits, middle, point_hits

BOX = (0.0, 0.0, 10.0, 10.0)


@pytest.mark.parametrize(
    ("given", "wanted", "hits"),
    [
        ([("a", (50, 50))], [("a", (55, 50))], Hits(1, 1, 1)),
        ([("a", (50, 50))], [("a", (55.1, 50))], Hits(0, 1, 1)),
        ([("b", (50, 50))], [("a", (50, 50))], Hits(0, 1, 1)),
        # One point is one hit.
        ([("a", (50, 50))], [("a", (50, 50)), ("a", (51, 50))], Hits(1, 2, 1)),
        ([("a", (50, 50)), ("a", (50, 51))], [("a", (50, 50))], Hits(1, 1, 2)),
        ([("a", (10, 10))], [("a", BOX)], Hits(1, 1, 1)),
        ([("a", (10.1, 10))], [("a", BOX)], Hits(0, 1, 1)),
        ([], [("a", BOX)], Hits(0, 1, 0)),
    ],
)
def test_hits(given: list, wanted: list, hits: Hits) -> None:
    assert point_hits(given, wanted, 100.0) == hits


def test_the_middle_of_a_box_is_its_point() -> None:
    assert middle(BOX) == (5, 5)
    assert middle((3.0, 4.0)) == (3, 4)
