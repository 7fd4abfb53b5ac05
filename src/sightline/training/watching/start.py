"""The watch of a run, put together from its model and plan."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from sightline.families import MappedFamily
from sightline.records import RunDirectory
from sightline.training.alarms import Alarm, RunFacts
from sightline.training.watching.run_watch import RunWatch
from sightline.training.watching.weight_change import WeightChange
from sightline.tuning import TuningPlan, place_of, trained_parameters


def watch_run(
    *,
    run: RunDirectory,
    model: nn.Module,
    plan: TuningPlan,
    family: MappedFamily,
    change: WeightChange,
    facts: RunFacts,
    tell: Callable[[Alarm], None],
) -> RunWatch:
    """A watch on a planned model. Made before a checkpoint is loaded; see `WeightChange`.

    Args:
        run: The run directory.
        model: The planned model, with the weights that the run starts from.
        plan: Its plan.
        family: Its family.
        change: Measures how far its weights move; see `watch_weights`.
        facts: What the alarms know; see `facts_of`.
        tell: Told of every alarm at once.
    """
    towers: dict[str, list[nn.Parameter]] = {}
    for item in trained_parameters(model, plan):
        tower = place_of(item.name, family.modules).tower
        towers.setdefault(tower, []).append(item.parameter)
    return RunWatch(run=run, model=model, towers=towers, change=change, facts=facts, tell=tell)


def watch_weights(model: nn.Module, plan: TuningPlan, family: MappedFamily) -> WeightChange:
    """A measure of how far a planned model's weights move from what they are now."""
    full = [
        (item.name, item.parameter)
        for item in trained_parameters(model, plan)
        if not item.is_adapter
    ]
    return WeightChange(model, full, lambda name: place_of(name, family.modules))


def facts_of(
    plan: TuningPlan,
    totals: dict[str, int],
    *,
    vocabulary: int,
    is_random: bool,
) -> RunFacts:
    """What the alarms know of a run.

    Args:
        plan: The plan.
        totals: ``totals`` of ``plan.json``.
        vocabulary: Tokens that the model can predict.
        is_random: Whether its weights are random: a model of ``sightline tiny``.
    """
    rates = [rate for module in plan.modules for rate in module.learning_rates if rate is not None]
    return RunFacts(
        vocabulary=vocabulary,
        is_random=is_random,
        towers=tuple(frozenset(plan.towers_in(stage)) for stage in range(len(plan.stages))),
        trainable_share=totals["num_trainable"] / totals["num_parameters"],
        learning_rate=max(rates),
    )
