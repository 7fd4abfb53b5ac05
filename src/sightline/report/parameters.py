"""The parameter table, grouped by tower, with blocks of the same kind in one row."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

_NUMBERED = re.compile(r"(.+)\.(\d+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockGroup:
    """Neighbouring blocks of one kind.

    Attributes:
        tower: The tower they are in.
        block: Their name: ``norm``, ``layers.0``, or ``layers.0-35`` for several.
        num_blocks: How many they are.
        num_parameters: Weights of the model in them, LoRA factors left out.
        num_trainable: Values that train in them, LoRA factors included.
        how: freeze, lora or full.
        dtype: Dtype of their weights.
        learning_rate: Peak learning rate, or None where nothing trains.
    """

    tower: str
    block: str
    num_blocks: int
    num_parameters: int
    num_trainable: int
    how: str
    dtype: str
    learning_rate: float | None

    @property
    def num_values(self) -> int:
        """Weights and, where LoRA was added, its factors."""
        added = self.num_trainable if self.how == "lora" else 0
        return self.num_parameters + added

    @property
    def share(self) -> float:
        """Share of the values that train, 0 to 1."""
        return self.num_trainable / self.num_values if self.num_values else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class TowerGroup:
    """One tower with its blocks."""

    tower: str
    blocks: tuple[BlockGroup, ...]

    @property
    def num_parameters(self) -> int:
        """Weights of the model in this tower."""
        return sum(group.num_parameters for group in self.blocks)

    @property
    def num_trainable(self) -> int:
        """Values that train in this tower."""
        return sum(group.num_trainable for group in self.blocks)

    @property
    def num_blocks(self) -> int:
        """Blocks before they were grouped."""
        return sum(group.num_blocks for group in self.blocks)

    @property
    def how(self) -> str:
        """What trains it: the modes of its blocks, ``freeze`` only where nothing trains."""
        modes = sorted({group.how for group in self.blocks if group.num_trainable})
        return " + ".join(modes) if modes else "freeze"

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """The peak learning rates in it, each once."""
        found = {group.learning_rate for group in self.blocks if group.learning_rate is not None}
        return tuple(sorted(found))

    @property
    def share(self) -> float:
        """Share of the values that train, 0 to 1."""
        total = sum(group.num_values for group in self.blocks)
        return self.num_trainable / total if total else 0.0


def group_towers(plan: Mapping[str, Any]) -> list[TowerGroup]:
    """The rows of ``plan.json`` by tower, towers in the plan's order."""
    return [
        TowerGroup(tower=tower, blocks=tuple(_group_blocks(list(rows))))
        for tower, rows in groupby(plan["rows"], key=lambda row: row["tower"])
    ]


def _group_blocks(rows: list[dict[str, Any]]) -> list[BlockGroup]:
    runs: list[list[dict[str, Any]]] = []
    for row in rows:
        if runs and _continues(runs[-1][-1], row):
            runs[-1].append(row)
        else:
            runs.append([row])
    return [_joined(run) for run in runs]


def _continues(before: dict[str, Any], row: dict[str, Any]) -> bool:
    """Whether a row is the next block of the same kind."""
    first, second = _NUMBERED.fullmatch(before["block"]), _NUMBERED.fullmatch(row["block"])
    if first is None or second is None:
        return False
    if first[1] != second[1] or int(second[2]) != int(first[2]) + 1:
        return False
    same = ("how", "dtype", "learning_rates")
    return all(before[key] == row[key] for key in same)


def _joined(rows: list[dict[str, Any]]) -> BlockGroup:
    first, last = rows[0], rows[-1]
    name = first["block"]
    if len(rows) > 1:
        name = f"{name}-{last['block'].rpartition('.')[2]}"
    return BlockGroup(
        tower=first["tower"],
        block=name,
        num_blocks=len(rows),
        num_parameters=sum(row["num_parameters"] for row in rows),
        num_trainable=sum(row["num_trainable"] for row in rows),
        how=first["how"],
        dtype=first["dtype"],
        learning_rate=max((r for r in first["learning_rates"] if r), default=None),
    )
