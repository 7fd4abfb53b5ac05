"""What was watched while a run trained, as numbers: by tower, over its steps and stages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sightline.report.curves import Points

TOWERS = ("vision", "projector", "language", "embeddings", "head")
"""The towers in the order of the data's flow, which is that of every legend."""

# What is logged beside them, of an evaluation itself.
_NO_MEASURES = ("loss", "runtime", "samples_per_second", "steps_per_second")

TowerPoints = Mapping[str, Points]


@dataclass(frozen=True, kw_only=True, slots=True)
class Border:
    """Where a stage begins.

    Attributes:
        step: The last step before it; that of the first line for the first stage.
        number: Number of the stage, from 1.
        name: What the plan calls it; the number where it has no word.
    """

    step: float
    number: int
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """Curves of a run; each is empty where nothing was logged.

    Attributes:
        gradients: Gradient norm of each tower before clipping.
        changes: Relative change of each tower's weights since the start.
        rates: Highest learning rate of each tower.
        tokens: Tokens a second.
        memory: Memory, MiB.
        measures: Measures of answers to held-out data, by their names in the configuration.
        borders: Where each stage begins; empty where there is only one.
    """

    gradients: TowerPoints
    changes: TowerPoints
    rates: TowerPoints
    tokens: Points
    memory: Points
    measures: TowerPoints
    borders: tuple[Border, ...]


def read_watched(
    metrics: Sequence[Mapping[str, Any]], plan: Mapping[str, Any] | None = None
) -> Watched:
    """The curves of a run.

    Args:
        metrics: Lines of ``metrics.jsonl``.
        plan: ``plan.json``, for the names of the stages.
    """
    lines = [line for line in metrics if line.get("loss") is not None]
    return Watched(
        gradients=_by_tower(lines, "grad_norm_by_tower"),
        changes=_by_tower(lines, "weight_change_by_tower"),
        rates=_by_tower(lines, "learning_rate_by_tower"),
        tokens=_points((line["step"], line.get("tokens_per_second")) for line in lines),
        memory=_points((line["step"], line.get("memory_mib")) for line in lines),
        measures=_measures(metrics),
        borders=_borders(lines, (plan or {}).get("stages") or []),
    )


def _by_tower(lines: Sequence[Mapping[str, Any]], key: str) -> TowerPoints:
    names = {name for line in lines for name in line.get(key, {})}
    ordered = [*(tower for tower in TOWERS if tower in names), *sorted(names - set(TOWERS))]
    return {
        name: _points((line["step"], line.get(key, {}).get(name)) for line in lines)
        for name in ordered
    }


def _measures(metrics: Sequence[Mapping[str, Any]]) -> TowerPoints:
    """Everything that an evaluation logged as ``eval_NAME``, but the loss, in its order."""
    keys = dict.fromkeys(key for line in metrics for key in line if key.startswith("eval_"))
    names = [key.removeprefix("eval_") for key in keys]
    return {
        name: _points((line["step"], line.get(f"eval_{name}")) for line in metrics)
        for name in names
        if name not in _NO_MEASURES
    }


def _points(pairs: Any) -> Points:
    """Finite values by step; a step that a resumed run logged again counts once, the later one."""
    found = {
        float(step): float(value)
        for step, value in pairs
        if value is not None and math.isfinite(value)
    }
    return tuple(sorted(found.items()))


def _borders(
    lines: Sequence[Mapping[str, Any]], stages: Sequence[Mapping[str, Any]]
) -> tuple[Border, ...]:
    ordered = sorted(lines, key=lambda line: line["step"])
    borders: list[Border] = []
    before = None
    for line in ordered:
        number = int(line.get("stage", 1))
        if not borders or number > borders[-1].number:
            known = stages[number - 1] if number <= len(stages) else {}
            borders.append(
                Border(
                    step=float(line["step"] if before is None else before),
                    number=number,
                    name=str(known.get("name") or number),
                )
            )
        before = line["step"]
    return tuple(borders) if len(borders) > 1 else ()
