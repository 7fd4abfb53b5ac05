"""Micro-batches of samples of similar length, for models whose samples are padded."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise

from sightline.data.batches.sizes import CostRates

# Halvings of the search for the least cost that is enough: a millionth of it.
_NUM_HALVINGS = 20


def padded_cost(
    batch: Sequence[int], tokens: Sequence[int], costs: Sequence[float], rates: CostRates
) -> float:
    """What a padded micro-batch costs: its samples, and the padding in the language model.

    Args:
        batch: Places of its samples.
        tokens: Lengths of all samples.
        costs: What all samples cost alone.
        rates: What their parts cost.

    Example:
        >>> padded_cost([0, 1], [4, 1], [4.0, 1.0], CostRates(per_token=1.0))
        8.0
    """
    if not batch:
        return 0.0
    row = _language(max(tokens[one] for one in batch), rates)
    return sum(costs[one] + row - _language(tokens[one], rates) for one in batch)


def runs(
    tokens: Sequence[int],
    costs: Sequence[float],
    num_batches: int,
    rates: CostRates,
    *,
    most: int | None,
    capacity: int | None,
) -> list[list[int]]:
    """Samples in the order of their lengths, cut where the parts cost about the same.

    Args:
        tokens: Lengths of the samples.
        costs: What they cost alone.
        num_batches: Parts; none stays empty where there are as many samples.
        rates: What padding costs.
        most: Most samples in a part.
        capacity: Most tokens of a part, padding included; a sample that is longer goes alone.

    Returns:
        Places of the samples, part by part; empty where they cannot be so.

    Example:
        >>> runs([3, 9, 2, 8], [3.0, 9.0, 2.0, 8.0], 2, CostRates(per_token=1.0), most=None,
        ...      capacity=None)
        [[1, 3], [0, 2]]
    """
    order = sorted(range(len(tokens)), key=lambda one: -tokens[one])
    lengths = [tokens[one] for one in order]
    cutting = _Cutting(lengths, [costs[one] for one in order], rates, most, capacity)
    if cutting.cut(float("inf"), num_batches) is None:
        return []
    too_low, enough = 0.0, cutting.of(0, len(order))
    for _ in range(_NUM_HALVINGS):
        middle = (too_low + enough) / 2
        if cutting.cut(middle, num_batches) is None:
            too_low = middle
        else:
            enough = middle
    bounds = cutting.cut(enough, num_batches)
    if bounds is None:
        bounds = cutting.cut(float("inf"), num_batches)
    assert bounds is not None
    cutting.cut_more(bounds, num_batches)
    parts = [order[first:last] for first, last in pairwise(bounds)]
    return parts + [[] for _ in range(num_batches - len(parts))]


class _Cutting:
    """Cuts samples of falling length into parts under a cost."""

    def __init__(
        self,
        lengths: list[int],
        costs: list[float],
        rates: CostRates,
        most: int | None,
        capacity: int | None,
    ) -> None:
        self._rows = [_language(length, rates) for length in lengths]
        # What does not grow with padding, summed up to each sample.
        others = [cost - row for cost, row in zip(costs, self._rows, strict=True)]
        self._others = [0.0, *accumulate(others)]
        limits = [
            min(most or len(lengths), max(1, capacity // length) if capacity else len(lengths))
            for length in lengths
        ]
        self._furthest = [min(len(lengths), first + limit) for first, limit in enumerate(limits)]

    def of(self, first: int, last: int) -> float:
        """What the samples from first up to last cost together, padded."""
        return (last - first) * self._rows[first] + self._others[last] - self._others[first]

    def cut(self, limit: float, num_parts: int) -> list[int] | None:
        """Where the fewest parts begin that cost no more, and the end; None where that is more."""
        bounds = [0]
        while bounds[-1] < len(self._rows):
            if len(bounds) > num_parts:
                return None
            first = bounds[-1]
            lasts = range(first + 1, self._furthest[first] + 1)
            # One sample is a part whatever it costs alone: then the limit is too low.
            num_fitting = bisect_right(lasts, limit, key=lambda last: self.of(first, last))
            if num_fitting == 0:
                return None
            bounds.append(lasts[num_fitting - 1])
        return bounds

    def cut_more(self, bounds: list[int], num_parts: int) -> None:
        """Halve the part that costs most, until there are so many or each holds one sample."""
        while len(bounds) - 1 < min(num_parts, len(self._rows)):
            parts = [
                (self.of(first, last), place)
                for place, (first, last) in enumerate(pairwise(bounds))
                if last - first > 1
            ]
            _, place = max(parts)
            first, last = bounds[place], bounds[place + 1]
            bounds.insert(place + 1, (first + last) // 2)


def _language(length: int, rates: CostRates) -> float:
    """What a row of so many tokens costs in the language model."""
    return rates.per_token * length + rates.per_token_pair * length * length
