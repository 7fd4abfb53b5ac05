"""Draws of whole samples, and intervals from them."""

from __future__ import annotations

import numpy as np
import pytest

from sightline.evaluation.bootstrap import Interval, difference, draws, interval, units_of

UNITS = units_of(["a", "a", "b", "c"])


def test_samples_are_drawn_whole() -> None:
    drawn = list(draws(UNITS, resamples=50, seed=1))
    assert all(weights[0] == weights[1] for weights in drawn)
    # Three samples are drawn each time; that of two questions counts once.
    assert {weights[1:].sum() for weights in drawn} == {3.0}
    assert len({tuple(weights) for weights in drawn}) > 5


def test_a_seed_gives_its_draws_again() -> None:
    first, again, other = (
        np.stack(list(draws(UNITS, resamples=20, seed=seed))) for seed in (1, 1, 2)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_the_interval_holds_the_middle_95_percent() -> None:
    drawn = [place / 1000 for place in range(1001)]
    assert interval(0.4, drawn) == pytest.approx(Interval(0.4, 0.025, 0.975))


def test_without_draws_or_with_nothing_to_measure_there_is_no_interval() -> None:
    assert interval(0.4, []) == Interval(0.4)
    assert interval(None, [None, None]) == Interval(None)
    assert interval(0.4, [None, None, 0.5]) == Interval(0.4)


def test_the_interval_of_a_mean_is_about_that_of_its_theory() -> None:
    """The mean of 400 throws of a coin: 1.96 standard errors to each side."""
    values = np.arange(400) % 2
    weights = list(draws(np.arange(400), resamples=2000, seed=0))
    found = interval(0.5, [float(w @ values / w.sum()) for w in weights])
    half = 1.96 * 0.5 / 20
    assert found.low == pytest.approx(0.5 - half, abs=0.006)
    assert found.high == pytest.approx(0.5 + half, abs=0.006)


def test_a_difference_needs_both() -> None:
    assert difference(0.75, 0.5) == 0.25
    assert difference(None, 0.5) is None
    assert difference(0.5, None) is None
