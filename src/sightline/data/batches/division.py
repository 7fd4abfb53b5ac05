"""A step's samples, divided over slots and ranks."""

from __future__ import annotations

import numpy as np

from sightline.data.batches.balance import balanced, filled
from sightline.data.batches.padding import padded_cost, runs
from sightline.data.batches.sizes import SampleSizes

Slot = list[list[int]]
"""Numbers of samples, [rank][sample]."""


class Division:
    """Divides steps into micro-batches.

    As few slots as the limits allow. Within them the costs are balanced: samples end to end go
    largest first to the micro-batch that costs least so far; samples that are padded lie beside
    those of similar length. Micro-batches of similar cost make a slot, so that ranks wait little.

    Args:
        sizes: Sizes of the conversations of an epoch.
        packed: Whether samples of a micro-batch lie end to end.
        num_ranks: Processes that share a step.
        batch_size: Most samples of a micro-batch; None for any number.
        row_limit: Most tokens of a micro-batch, padding included; None for any number.
    """

    def __init__(
        self,
        sizes: SampleSizes,
        *,
        packed: bool,
        num_ranks: int,
        batch_size: int | None,
        row_limit: int | None,
    ) -> None:
        self._sizes = sizes
        self._packed = packed
        self._num_ranks = num_ranks
        self._batch_size = batch_size
        self._row_limit = row_limit

    def slots(self, samples: np.ndarray) -> list[Slot]:
        """The samples of a step, [slot][rank]; the slot that costs most comes first."""
        tokens = self._sizes.num_tokens[samples].tolist()
        costs = self._sizes.cost[samples].tolist()
        batches = self._packed_rows(tokens, costs) if self._packed else self._runs(tokens, costs)
        rates = self._sizes.rates
        loads = [
            sum(costs[one] for one in batch)
            if self._packed
            else padded_cost(batch, tokens, costs, rates)
            for batch in batches
        ]
        numbers = samples.tolist()
        return [
            [[numbers[one] for one in batches[batch]] for batch in slot]
            for slot in _matched(loads, self._num_ranks)
        ]

    def _packed_rows(self, tokens: list[int], costs: list[float]) -> list[list[int]]:
        num_slots = self._fewest_slots(tokens)
        while True:
            num_bins = num_slots * self._num_ranks
            shares = balanced(
                costs, num_bins, most=self._batch_size, weights=tokens, capacity=self._row_limit
            )
            if shares:
                return shares
            assert self._row_limit is not None
            # Full rows leave no room to balance costs, and those of equal length cost about as
            # much.
            shares = filled(tokens, num_bins, self._row_limit, most=self._batch_size)
            if shares:
                return shares
            num_slots += 1

    def _runs(self, tokens: list[int], costs: list[float]) -> list[list[int]]:
        num_slots = self._fewest_slots(tokens)
        while True:
            found = runs(
                tokens,
                costs,
                num_slots * self._num_ranks,
                self._sizes.rates,
                most=self._batch_size,
                capacity=self._row_limit,
            )
            if found:
                return found
            num_slots += 1

    def _fewest_slots(self, tokens: list[int]) -> int:
        """What no division can do without."""
        batches = 1
        if self._batch_size is not None:
            batches = -(-len(tokens) // self._batch_size)
        if self._row_limit is not None:
            filled = sum(min(length, self._row_limit) for length in tokens)
            batches = max(batches, -(-filled // self._row_limit))
        return max(1, -(-batches // self._num_ranks))


def _matched(loads: list[float], num_ranks: int) -> list[list[int]]:
    """Batches by slot and rank: those of similar cost in a slot, ranks as equal as that allows."""
    order = sorted(range(len(loads)), key=lambda batch: -loads[batch])
    totals = [0.0] * num_ranks
    slots: list[list[int]] = []
    for first in range(0, len(order), num_ranks):
        slot = [0] * num_ranks
        # The batch that costs most goes to the rank that has done least.
        ranks = sorted(range(num_ranks), key=lambda rank: totals[rank])
        for rank, batch in zip(ranks, order[first : first + num_ranks], strict=True):
            slot[rank] = batch
            totals[rank] += loads[batch]
        slots.append(slot)
    return slots
