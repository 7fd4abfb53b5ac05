"""The stages of a plan: where each ends, what trains in it, how long it is beside the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sightline.report.parameters import BlockGroup, Summed, TowerGroup
from sightline.report.quantities import number_text

MARKS = {"full": "█", "lora": "▒", "mixed": "▓", "freeze": "·"}


@dataclass(frozen=True, kw_only=True, slots=True)
class StageSpan:
    """A stage of the run.

    Attributes:
        number: From 1.
        name: A word for it.
        until: Where it ends, in words.
        start: Share of the run at which it begins, 0 to 1; estimated where it is not known.
        end: Share of the run at which it ends, the same.
    """

    number: int
    name: str
    until: str
    start: float
    end: float

    @property
    def words(self) -> str:
        """Where it ends, as a sentence has it: ``until step 30``, ``to the end of the run``."""
        return f"to the {self.until}" if self.end == 1 else f"until {self.until}"


def stage_spans(
    stages: Sequence[Mapping[str, Any]], num_steps: int | None
) -> tuple[list[StageSpan], bool]:
    """Where the stages of a run stand, and whether their lengths are known.

    Args:
        stages: The stages of ``plan.json``.
        num_steps: Optimizer steps of the run; None where they are not known.
    """
    ends = [_end(stage, num_steps) for stage in stages[:-1]]
    is_known = all(end is not None for end in ends)
    # A plateau comes when it comes: equal lengths claim nothing.
    borders = [end or 0.0 for end in ends] if is_known else _equal(len(stages))
    borders = [0.0, *borders, 1.0]
    spans = [
        StageSpan(
            number=index + 1,
            name=stage["name"],
            until="end of the run" if index == len(stages) - 1 else until_words(stage),
            start=borders[index],
            end=borders[index + 1],
        )
        for index, stage in enumerate(stages)
    ]
    return spans, is_known


def until_words(stage: Mapping[str, Any]) -> str:
    """Where a stage ends that is not the last.

    >>> until_words({"share": 0.3, "step": None, "plateau": False})
    '30 % of the run'
    """
    if stage["share"] is not None:
        return f"{100 * stage['share']:g} % of the run"
    if stage["step"] is not None:
        return f"step {stage['step']:,}"
    return "a plateau"


def what_trains(towers: Sequence[TowerGroup], stage: int) -> list[str]:
    """What trains in a stage, one tower an item: ``language layers.2-3: lora r16, 1e-4``.

    Args:
        towers: The towers.
        stage: Its number, from 1.
    """
    return [_trains(tower, stage) for tower in towers if tower.trainable_in(stage)]


def _trains(tower: TowerGroup, stage: int) -> str:
    active = [block for block in tower.blocks if block.trainable_in(stage)]
    rates = [number_text(rate) for rate in sorted(_rates(active, stage))]
    said = ""
    if any(block.first is not None and not block.trainable_in(stage) for block in tower.blocks):
        said = " " + ", ".join(_trained_part(block, stage) for block in active)
    return f"{tower.tower}{said}: {tower.how_in(stage)}, {' and '.join(rates)}"


def _trained_part(block: BlockGroup, stage: int) -> str:
    kinds = [part.kind for part in block.parts if part.trainable_in(stage)]
    left_out = [p.kind for p in block.parts if p.kind not in kinds and p.kind != "norm"]
    return f"{block.block} {' and '.join(kinds)}" if left_out else block.block


def _rates(groups: Sequence[Summed], stage: int) -> set[float]:
    found = {part.rates[stage - 1] for group in groups for part in group.leaves if part.trained}
    return {rate for rate in found if rate is not None}


def mode_in(group: Summed, stage: int) -> str:
    """How something trains in a stage, numbered from 1: freeze, lora, full or mixed."""
    modes = {p.mode for p in group.leaves if p.trained and stage in p.stages}
    return "mixed" if len(modes) > 1 else next(iter(modes), "freeze")


def strip_text(tower: TowerGroup, spans: Sequence[StageSpan], width: int) -> str:
    """A line of marks: how a tower trains over the run.

    Args:
        tower: The tower.
        spans: The stages.
        width: Characters of the line; every stage has one at least.
    """
    ends = strip_ends(spans, width)
    starts = [0, *ends[:-1]]
    return "".join(
        MARKS[mode_in(tower, span.number)] * (end - start)
        for span, start, end in zip(spans, starts, ends, strict=True)
    )


def strip_ends(spans: Sequence[StageSpan], width: int) -> list[int]:
    """Where each stage ends in a line of ``width`` characters."""
    ends: list[int] = []
    for index, span in enumerate(spans):
        earliest = (ends[-1] if ends else 0) + 1
        latest = width - (len(spans) - 1 - index)
        ends.append(min(max(round(span.end * width), earliest), latest))
    return ends


def _end(stage: Mapping[str, Any], num_steps: int | None) -> float | None:
    if stage["share"] is not None:
        return stage["share"]
    if stage["step"] is not None and num_steps:
        return min(stage["step"] / num_steps, 1.0)
    return None


def _equal(count: int) -> list[float]:
    return [(index + 1) / count for index in range(count - 1)]
