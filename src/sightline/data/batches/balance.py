"""Sharing out numbers so that the shares are equal: what steps, micro-batches and ranks come from.

Shares are lists of places in what was given. Everything here is deterministic: where two are equal,
the earlier one comes first.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np


def least_bins(sizes: np.ndarray, capacity: int, *, fill: float) -> int:
    """How many bins the sizes need, about; at least 1 and never more than there are sizes.

    That is what they fill, and what those take that cannot share a bin: the bound L2 of Martello
    and Toth, Lower bounds and reduction procedures for the bin packing problem (1990). A size over
    the capacity counts as a full bin.

    Args:
        sizes: (n,) Sizes.
        capacity: Most that a bin should hold.
        fill: Share of the capacity that packing is trusted to use.

    Example:
        >>> least_bins(np.array([5, 5, 5]), 10, fill=1.0)
        2
        >>> least_bins(np.array([6, 6, 6]), 10, fill=1.0)
        3
    """
    ordered = np.sort(np.minimum(sizes, capacity))
    filled = int(-(-int(ordered.sum()) // max(1, int(capacity * fill))))
    sums = np.concatenate([[0], np.cumsum(ordered)])
    half = int(np.searchsorted(ordered, capacity / 2, side="right"))
    # Sizes under the least that are counted, one bound for each: those over capacity - least share
    # with none of the rest, those over half share with no other.
    firsts = np.arange(half + 1)
    least = np.append(ordered[:half], capacity / 2)
    alone = np.searchsorted(ordered, capacity - least, side="right")
    room = (alone - half) * capacity - (sums[alone] - sums[half])
    rest = np.maximum(0, np.ceil((sums[half] - sums[firsts] - room) / capacity))
    bound = int((len(ordered) - half + rest).max())
    return max(1, min(len(ordered), max(filled, bound)))


def balanced(
    sizes: Sequence[float],
    num_bins: int,
    *,
    most: int | None = None,
    weights: Sequence[int] | None = None,
    capacity: int | None = None,
) -> list[list[int]]:
    """Shares of about the same sum: the largest first, each to the share that has least so far.

    Args:
        sizes: What is to be equal, none negative.
        num_bins: Shares; none stays empty where there are as many sizes.
        most: Most sizes in a share.
        weights: What counts towards the capacity; a weight above it goes alone.
        capacity: Most weight of a share.

    Returns:
        Shares, each in the order in which it was filled; empty where they cannot be so.

    Example:
        >>> balanced([5, 3, 4, 2], 2)
        [[0, 3], [2, 1]]
        >>> balanced([9, 1, 1, 1], 2, most=2)
        [[0, 3], [1, 2]]
    """
    shares: list[list[int]] = [[] for _ in range(num_bins)]
    used = [0] * num_bins
    least: list[tuple[float, int, int]] = [(0.0, 0, number) for number in range(num_bins)]
    for place in sorted(range(len(sizes)), key=lambda one: -sizes[one]):
        passed: list[tuple[float, int, int]] = []
        weight = 0 if weights is None else weights[place]
        found = False
        while least and not found:
            load, count, number = heapq.heappop(least)
            if count and capacity is not None and used[number] + weight > capacity:
                passed.append((load, count, number))
                continue
            found = True
            shares[number].append(place)
            used[number] += weight
            # A full share is not put back.
            if count + 1 != most:
                heapq.heappush(least, (load + sizes[place], count + 1, number))
        if not found:
            return []
        for entry in passed:
            heapq.heappush(least, entry)
    return shares
