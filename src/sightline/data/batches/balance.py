"""Sharing out numbers so that the shares are equal: what steps, micro-batches and ranks come from.

Shares are lists of places in what was given. Everything here is deterministic: where two are equal,
the earlier one comes first.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np

_EXCHANGES_A_SHARE = 8


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


def filled(
    sizes: Sequence[int], num_bins: int, capacity: int, *, most: int | None = None
) -> list[list[int]]:
    """Shares under a capacity: the largest first, even where that works, best fit where it fits.

    Args:
        sizes: Sizes; one over the capacity goes alone.
        num_bins: Shares; none stays empty where there are as many sizes.
        capacity: Most that a share holds.
        most: Most sizes in a share.

    Returns:
        Shares; empty where none were found under the capacity.

    Example:
        >>> filled([5, 5, 4, 3, 3], 2, 10)
        [[0, 1], [2, 3, 4]]
        >>> filled([5, 5, 5], 2, 9)
        []
    """
    array = np.array(sizes, dtype=np.int64)
    shares = balanced(sizes, num_bins, most=most)
    if shares:
        even_out(shares, array, target=capacity, most=most)
        if _is_within(shares, sizes, capacity):
            return shares
    shares = _best_fit(sizes, num_bins, capacity, most)
    # Moving one to an empty share leaves the others smaller, so none has to be empty.
    for share in shares:
        if not share:
            largest = max(shares, key=len)
            if len(largest) > 1:
                share.append(largest.pop())
    return shares


def _is_within(shares: Sequence[Sequence[int]], sizes: Sequence[int], capacity: int) -> bool:
    """Whether no share of several sizes is over a capacity."""
    return all(len(share) == 1 or sum(sizes[one] for one in share) <= capacity for share in shares)


def _best_fit(
    sizes: Sequence[int], num_bins: int, capacity: int, most: int | None
) -> list[list[int]]:
    """The largest first, each to the share that it fills most; empty where some do not fit."""
    shares: list[list[int]] = [[] for _ in range(num_bins)]
    rooms = [(capacity, number) for number in range(num_bins)]
    for place in sorted(range(len(sizes)), key=lambda one: -sizes[one]):
        size = min(sizes[place], capacity)
        at = bisect_left(rooms, (size, 0))
        if at == len(rooms):
            return []
        room, number = rooms.pop(at)
        shares[number].append(place)
        if len(shares[number]) != most:
            insort(rooms, (room - size, number))
    return shares


def even_out(
    shares: Sequence[list[int]],
    sizes: np.ndarray,
    *,
    target: float,
    most: int | None = None,
) -> None:
    """Exchange sizes between shares, in place, until none is over the target or none can help.

    The largest share gives one of its sizes away, for a smaller one or for none, to the first of
    the others, smallest first, that then stays below what it was.

    Args:
        shares: Places in the sizes.
        sizes: (n,) int64. Sizes.
        target: Sum of a share that is small enough.
        most: Most sizes in a share.

    Example:
        >>> shares = [[0, 1], [2, 3]]
        >>> even_out(shares, np.array([6, 5, 2, 1]), target=7)
        >>> shares
        [[2, 1], [0, 3]]
    """
    loads = [int(sizes[share].sum()) for share in shares]
    open_shares = set(range(len(shares)))
    # Each exchange makes the larger of two shares smaller; the bound is for time alone.
    for _ in range(_EXCHANGES_A_SHARE * len(shares)):
        over = [share for share in open_shares if loads[share] > target]
        if not over:
            return
        largest = max(over, key=loads.__getitem__)
        for other in sorted(range(len(shares)), key=loads.__getitem__):
            moved = _exchange(
                shares[largest], shares[other], sizes, loads[largest] - loads[other], most
            )
            if moved:
                loads[largest] -= moved
                loads[other] += moved
                break
        else:
            # Nothing helps this one, such as a share of one size; others may be over, too.
            open_shares.remove(largest)


def _exchange(
    larger: list[int], smaller: list[int], sizes: np.ndarray, gap: int, most: int | None
) -> int:
    """Exchange what brings two shares nearest to each other; by how much, 0 for not at all."""
    if gap < 2:
        return 0
    given = sizes[larger]
    order = np.argsort(sizes[smaller], kind="stable")
    takes_more = most is None or len(smaller) < most
    # A size of nothing in front: it is moved, and none comes back.
    back = np.concatenate([[0] if takes_more else [], sizes[smaller][order]]).astype(np.int64)
    if len(back) == 0:
        return 0
    after = np.searchsorted(back, given - gap / 2)
    best, found = gap, None
    for places in (np.maximum(after - 1, 0), np.minimum(after, len(back) - 1)):
        moved = given - back[places]
        # What is left of the gap, in either direction.
        left = np.abs(gap - 2 * moved)
        place = int(left.argmin())
        if left[place] < best:
            best, found = int(left[place]), (place, int(places[place]), int(moved[place]))
    if found is None:
        return 0
    give, take, moved_size = found
    leaving = larger[give]
    if takes_more and take == 0:
        del larger[give]
        smaller.append(leaving)
    else:
        taken = int(order[take - takes_more])
        larger[give], smaller[taken] = smaller[taken], leaving
    return moved_size
