"""How far a measure would be off on other samples: intervals from samples drawn anew.

Samples are drawn whole, with all their questions: answers about one picture are not independent.
Two models are compared on the same draws, so that what is hard for both does not widen the
interval of their difference.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95

Value = Callable[[np.ndarray], float | None]
"""A measure where every prediction is there so often: weights (num_predictions,)."""


class Interval(NamedTuple):
    """A measure with the interval in which it lies with 95 %.

    Attributes:
        value: On the samples as they are; None where nothing is measured.
        low: Lower end; None where nothing was drawn, or too few draws had anything to measure.
        high: Upper end.
    """

    value: float | None
    low: float | None = None
    high: float | None = None


def units_of(names: Sequence[Hashable]) -> np.ndarray:
    """(num_predictions,) int64, the same number for predictions of one sample.

    Args:
        names: What names the sample of each.

    >>> units_of(["a", "b", "a"]).tolist()
    [0, 1, 0]
    """
    numbers: dict[Hashable, int] = {}
    return np.asarray([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)


def draws(units: np.ndarray, *, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Weights of all predictions, draw by draw: how often its sample was drawn.

    Args:
        units: (num_predictions,) Number of each prediction's sample.
        resamples: How many draws.
        seed: The same seed, the same draws.
    """
    rng = np.random.default_rng(seed)
    count = int(units.max()) + 1 if len(units) else 0
    for _ in range(resamples):
        times = np.bincount(rng.integers(0, count, count), minlength=count)
        yield times[units].astype(np.float64)


def interval(value: float | None, drawn: Sequence[float | None]) -> Interval:
    """The interval of a measure, from what it was on the draws.

    Args:
        value: On the samples as they are.
        drawn: On every draw; None where nothing was measured.
    """
    known = [one for one in drawn if one is not None]
    if value is None or 2 * len(known) <= len(drawn):
        return Interval(value)
    outside = (1 - CONFIDENCE) / 2
    low, high = np.quantile(known, [outside, 1 - outside])
    return Interval(value, float(low), float(high))


def difference(after: float | None, before: float | None) -> float | None:
    """How much a measure grew; None where one of both is not there."""
    return None if after is None or before is None else after - before
