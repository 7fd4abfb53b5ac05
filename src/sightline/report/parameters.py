"""The parameter table, grouped by tower, with neighbouring blocks that are alike in one row."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sightline.errors import RunError

_NUMBERED = re.compile(r"(.+)\.(\d+)")
_SCHEMA = 2
_FIRST_KINDS = ("attention", "mlp")

Rates = tuple[float | None, ...]


class Summed(ABC):
    """What a tower, some blocks or the layers of one kind have in common: sums over parts."""

    __slots__ = ()

    @property
    @abstractmethod
    def leaves(self) -> tuple[PartGroup, ...]:
        """The layers of one kind that it is made of."""

    @property
    def num_parameters(self) -> int:
        """Weights of the model in it, LoRA factors left out."""
        return sum(part.size for part in self.leaves)

    @property
    def num_trainable(self) -> int:
        """Values that train in it in any stage, LoRA factors included."""
        return sum(part.trained for part in self.leaves)

    @property
    def num_bytes(self) -> int:
        """Bytes of its weights, gradients and moments."""
        return sum(part.bytes for part in self.leaves)

    @property
    def share(self) -> float:
        """Share of the values that train, 0 to 1."""
        added = sum(part.trained for part in self.leaves if part.mode == "lora")
        total = self.num_parameters + added
        return self.num_trainable / total if total else 0.0

    @property
    def how(self) -> str:
        """What trains it: ``lora r16``, ``full``, both, or ``freeze`` where nothing trains."""
        return _joined(part.words for part in self.leaves if part.trained) or "freeze"

    @property
    def dtype(self) -> str:
        """Dtype of its weights."""
        return _joined(part.kept_in for part in self.leaves)

    @property
    def learning_rates(self) -> Rates:
        """Highest peak learning rate in each stage; None where nothing trains."""
        stages = zip(*(part.rates for part in self.leaves), strict=True)
        return tuple(max((r for r in stage if r is not None), default=None) for stage in stages)

    @property
    def peaks(self) -> tuple[float, ...]:
        """The peak learning rates in it, in any stage, each once."""
        return tuple(sorted({r for part in self.leaves for r in part.rates if r is not None}))

    @property
    def stages(self) -> tuple[int, ...]:
        """Numbers of the stages in which it trains, from 1."""
        rates = self.learning_rates
        return tuple(number for number, rate in enumerate(rates, start=1) if rate is not None)

    def how_in(self, stage: int) -> str:
        """What trains it in a stage, numbered from 1."""
        active = [part for part in self.leaves if stage in part.stages and part.trained]
        return _joined(part.words for part in active) or "freeze"

    def trainable_in(self, stage: int) -> int:
        """Values that train in a stage, numbered from 1."""
        return sum(part.trained for part in self.leaves if stage in part.stages)


@dataclass(frozen=True, kw_only=True, slots=True)
class PartGroup(Summed):
    """Layers of one kind in neighbouring blocks that are alike.

    Attributes:
        kind: attention, mlp, norm, embedding, merger, deepstack or head.
        size: Weights of the model, LoRA factors left out.
        trained: Values that train in any stage, LoRA factors included.
        mode: freeze, lora or full.
        rank: LoRA rank; None where there is none.
        kept_in: Dtype of the weights.
        rates: Peak learning rate in each stage; None where it does not train.
        bytes: Bytes of weights, gradients and moments.
        modules: Names of the modules inside the block that own the weights, where they are known.
    """

    kind: str
    size: int
    trained: int
    mode: str
    rank: int | None
    kept_in: str
    rates: Rates
    bytes: int
    modules: tuple[str, ...] = ()

    @property
    def leaves(self) -> tuple[PartGroup, ...]:
        return (self,)

    @property
    def words(self) -> str:
        """How it trains, with the rank: ``lora r16``."""
        return f"{self.mode} r{self.rank}" if self.rank is not None else self.mode


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockGroup(Summed):
    """Neighbouring blocks that are alike.

    Attributes:
        tower: The tower they are in.
        block: Their name: ``norm``, ``layers.0``, or ``layers.0-35`` for several.
        first: Number of the first of them; None where they have none.
        num_blocks: How many they are.
        parts: What is inside them, attention first.
        reads_from: Vision blocks after which deepstack mergers read, in order.
    """

    tower: str
    block: str
    first: int | None
    num_blocks: int
    parts: tuple[PartGroup, ...]
    reads_from: tuple[int, ...] = ()

    @property
    def leaves(self) -> tuple[PartGroup, ...]:
        return self.parts

    @property
    def is_even(self) -> bool:
        """Whether everything in it that can be adapted trains alike."""
        ways = {(p.words, p.rates) for p in self.parts if p.kind != "norm" or p.mode == "full"}
        return len(ways) <= 1


@dataclass(frozen=True, kw_only=True, slots=True)
class TowerGroup(Summed):
    """One tower with its blocks.

    Attributes:
        tower: Its name.
        blocks: Its blocks, neighbours that are alike joined; none where it is tied.
        is_tied: Whether it is a head that is the token embedding's own weight.
    """

    tower: str
    blocks: tuple[BlockGroup, ...]
    is_tied: bool = False

    @property
    def leaves(self) -> tuple[PartGroup, ...]:
        return tuple(part for group in self.blocks for part in group.parts)

    @property
    def num_blocks(self) -> int:
        """Blocks before they were grouped."""
        return sum(group.num_blocks for group in self.blocks)


def group_towers(plan: Mapping[str, Any]) -> list[TowerGroup]:
    """The rows of ``plan.json`` by tower, towers in the plan's order.

    Args:
        plan: The file's content.

    Raises:
        RunError: It was written by a version of Sightline with another table.
    """
    if plan.get("schema") != _SCHEMA:
        raise RunError(
            f"plan.json has schema {plan.get('schema', 1)}, and this version of Sightline reads "
            f"{_SCHEMA}.\nUse the version that trained the run, or train it anew."
        )
    return towers_of(plan["rows"], is_tied=plan["is_tied"])


def towers_of(rows: Sequence[Mapping[str, Any]], *, is_tied: bool) -> list[TowerGroup]:
    """Rows of a parameter table by tower.

    Args:
        rows: One row for the layers of one kind in one block, with the keys of ``plan.json``.
        is_tied: Whether the head is the token embedding's own weight, and so has no row.
    """
    towers = [
        TowerGroup(tower=tower, blocks=tuple(_group_blocks(list(inside))))
        for tower, inside in groupby(rows, key=lambda row: row["tower"])
    ]
    if is_tied and all(group.tower != "head" for group in towers):
        towers.append(TowerGroup(tower="head", blocks=(), is_tied=True))
    return towers


Block = list[Mapping[str, Any]]


def _group_blocks(rows: Sequence[Mapping[str, Any]]) -> list[BlockGroup]:
    runs: list[list[Block]] = []
    for _, inside in groupby(rows, key=lambda row: row["block"]):
        block = list(inside)
        if runs and _continues(runs[-1][-1], block):
            runs[-1].append(block)
        else:
            runs.append([block])
    return [_group(run) for run in runs]


def _continues(before: Block, block: Block) -> bool:
    """Whether a block follows another and is like it."""
    first, second = (_NUMBERED.fullmatch(one[0]["block"]) for one in (before, block))
    if first is None or second is None:
        return False
    if first[1] != second[1] or int(second[2]) != int(first[2]) + 1:
        return False
    return [_alike(row) for row in before] == [_alike(row) for row in block]


def _alike(row: Mapping[str, Any]) -> tuple[object, ...]:
    """What two rows have to share to stand in one line."""
    same = ("kind", "how", "rank", "alpha", "dtype", "weight_decay", "num_parameters")
    return (*(row[key] for key in same), tuple(row["learning_rates"]))


def _group(blocks: list[Block]) -> BlockGroup:
    names = [block[0]["block"] for block in blocks]
    numbered = _NUMBERED.fullmatch(names[0])
    parts = [_part([block[place] for block in blocks]) for place in range(len(blocks[0]))]
    sources = (row["reads_from"] for block in blocks for row in block)
    return BlockGroup(
        tower=blocks[0][0]["tower"],
        block=names[0] if len(names) == 1 else f"{names[0]}-{names[-1].rpartition('.')[2]}",
        first=int(numbered[2]) if numbered else None,
        num_blocks=len(blocks),
        parts=tuple(sorted(parts, key=_order)),
        reads_from=tuple(block for block in sources if block is not None),
    )


def _part(rows: list[Mapping[str, Any]]) -> PartGroup:
    row = rows[0]
    counted = ("weight_bytes", "gradient_bytes", "optimizer_bytes")
    return PartGroup(
        kind=row["kind"],
        size=sum(one["num_parameters"] for one in rows),
        trained=sum(one["num_trainable"] for one in rows),
        mode=row["how"],
        rank=row["rank"],
        kept_in=row["dtype"],
        rates=tuple(row["learning_rates"]),
        bytes=sum(one[key] for one in rows for key in counted),
        modules=tuple(row.get("modules", ())),
    )


def _order(part: PartGroup) -> int:
    return _FIRST_KINDS.index(part.kind) if part.kind in _FIRST_KINDS else len(_FIRST_KINDS)


def _joined(words: Iterable[str]) -> str:
    return " + ".join(dict.fromkeys(words))
