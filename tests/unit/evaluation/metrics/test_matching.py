"""Overlaps and matches, by hand."""

from __future__ import annotations

import pytest

from sightline.evaluation.metrics.matching import Scored, best_overlaps, by_score, iou, matched

A = (0.0, 0.0, 10.0, 10.0)
B = (0.0, 0.0, 10.0, 20.0)
FAR = (100.0, 100.0, 110.0, 110.0)


@pytest.mark.parametrize(
    ("one", "other", "value"),
    [(A, A, 1), (A, B, 0.5), (A, FAR, 0), (A, (10, 0, 20, 10), 0), (A, (5, 5, 5, 5), 0),
     (A, (5, 0, 15, 10), 1 / 3)],
)  # fmt: skip
def test_overlap(one: tuple, other: tuple, value: float) -> None:
    assert iou(one, other) == pytest.approx(value)
    assert iou(other, one) == pytest.approx(value)


def test_the_surest_box_takes_the_best_that_is_left() -> None:
    given = [Scored(B, 0.2), Scored(A, 0.9)]
    order = by_score(given)
    assert order == [1, 0]
    surest = [given[place] for place in order]
    assert matched(surest, [A], (0.5, 0.75)) == [[True, False], [True, False]]
    assert matched(surest, [A, B], (0.5, 0.75)) == [[True, True], [True, True]]
    # The one that is less sure is the only one left for A, and overlaps with it by a half.
    assert matched([Scored(A, 0.9), Scored(B, 0.2)], [A, A], (0.5, 0.51)) == [
        [True, True],
        [True, False],
    ]


def test_nothing_matches_nothing() -> None:
    assert matched([], [A], (0.5,)) == [[]]
    assert matched([Scored(A, 1)], [], (0.5,)) == [[False]]


def test_every_annotated_box_has_the_overlap_of_its_pair() -> None:
    assert best_overlaps([B, A], [A, FAR]) == [1, 0]
    assert best_overlaps([B], [A, B]) == [0, 1]
    assert best_overlaps([], [A]) == [0]
