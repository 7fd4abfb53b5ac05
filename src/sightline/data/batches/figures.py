"""How full the steps of a run are, and how long ranks wait for each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sightline.data.batches.padding import padded_cost
from sightline.data.batches.plan import MicroBatch, Step, StepPlan

# Steps that are looked at: the rest are like them.
_NUM_STEPS = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """Least, median and most of a number."""

    least: int
    median: int
    most: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StepFigures:
    """The steps of a run in numbers.

    Attributes:
        num_steps: Steps of an epoch.
        samples: Samples of a step.
        tokens: Tokens of a step, padding not counted.
        slots: Micro-batches of a step and rank.
        row_tokens: Tokens of a micro-batch that is not empty, padding counted.
        padding_share: Share of the cells of a micro-batch that hold no token.
        idle_share: Share of the time of all ranks that is spent waiting, by estimated cost.
    """

    num_steps: int
    samples: Spread
    tokens: Spread
    slots: Spread
    row_tokens: Spread
    padding_share: float
    idle_share: float


def figures_of(plan: StepPlan, *, epoch: int = 0) -> StepFigures:
    """The first 200 steps of an epoch, in numbers.

    Args:
        plan: The steps.
        epoch: Number of the epoch, 0-based.
    """
    steps = [plan.step(epoch, number) for number in range(min(plan.num_steps, _NUM_STEPS))]
    lengths = plan.sizes.num_tokens
    rows = [
        _cells(batch, plan)
        for step in steps
        for slot in step.slots
        for batch in slot
        if batch.samples
    ]
    tokens = [int(lengths[list(step.samples)].sum()) for step in steps]
    return StepFigures(
        num_steps=plan.num_steps,
        samples=_spread(len(step.samples) for step in steps),
        tokens=_spread(tokens),
        slots=_spread(len(step.slots) for step in steps),
        row_tokens=_spread(rows),
        padding_share=1 - sum(tokens) / sum(rows),
        idle_share=idle_share(plan, steps),
    )


def idle_share(plan: StepPlan, steps: Sequence[Step]) -> float:
    """Share of the ranks' time spent waiting for the slowest of each slot, by estimated cost.

    Args:
        plan: Where the steps are from.
        steps: Steps.
    """
    busy = longest = 0.0
    for step in steps:
        for slot in step.slots:
            loads = [load(batch, plan) for batch in slot]
            busy += sum(loads)
            longest += len(loads) * max(loads)
    return 1 - busy / longest if longest else 0.0


def load(batch: MicroBatch, plan: StepPlan) -> float:
    """Estimated cost of a micro-batch, its padding included."""
    sizes = plan.sizes
    costs = sizes.cost[list(batch.samples)].tolist()
    if plan.shape.packed:
        return sum(costs)
    tokens = sizes.num_tokens[list(batch.samples)].tolist()
    return padded_cost(range(len(costs)), tokens, costs, sizes.rates)


def _cells(batch: MicroBatch, plan: StepPlan) -> int:
    """Tokens of a micro-batch, padding counted."""
    tokens = plan.sizes.num_tokens[list(batch.samples)]
    return int(tokens.sum()) if plan.shape.packed else len(tokens) * int(tokens.max())


def _spread(values: Iterable[int]) -> Spread:
    ordered = sorted(values)
    return Spread(least=ordered[0], median=ordered[len(ordered) // 2], most=ordered[-1])
