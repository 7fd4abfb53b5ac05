"""The map of a model: its towers, blocks and layers as a tree, with what a plan does to each.

The meta device is enough, so the map of a model of any size takes seconds and no memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from typing import Any, TypeVar, get_args

import torch
from transformers import PreTrainedModel

from sightline.config import Kind
from sightline.families import MappedFamily
from sightline.tuning.apply import apply_plan
from sightline.tuning.plan import PlannedModule, PlannedStage, TuningPlan
from sightline.tuning.resolve import ties_head
from sightline.tuning.table import PlanRow, plan_rows
from sightline.tuning.towers import TOWERS, Place, Tower, place_of

SCHEMA = 1

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Words:
    """The words of the configuration that address a part of the model.

    Attributes:
        tower: The key below ``tuning``.
        blocks: Number of the block; None where it is in none, or is the whole tower.
        kind: Kind of the layers; None where there is but one here.
    """

    tower: Tower
    blocks: int | None = None
    kind: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MapNode:
    """A tower, a block of it, or the layers of one kind in a block.

    Attributes:
        name: What it is called inside the node around it.
        tower: The tower it is in.
        kind: attention, mlp, norm, embedding, merger, deepstack or head; None where it holds
            several.
        path: The innermost module that holds all of it.
        modules: Modules below ``path`` that own its weights, where they are several; empty for
            a block and a tower.
        words: How the configuration addresses it.
        num_parameters: Weights of the model in it, LoRA factors left out.
        num_trainable: Values that train in any stage, LoRA factors included.
        dtype: Dtype of its weights; several are joined by " + ".
        how: freeze, lora or full; several are joined by " + "; None without a plan.
        rank: LoRA rank; None where there is none, or several.
        alpha: LoRA alpha, the same.
        learning_rates: Highest peak learning rate in each stage; None where nothing trains.
        weight_decay: AdamW's decay of its weight matrices; None where nothing trains.
        stages: Numbers of the stages in which it trains, from 1.
        weight_bytes: Bytes of weights, factors and copies.
        gradient_bytes: Bytes of gradients, where everything of the plan trains at once.
        optimizer_bytes: Bytes of AdamW's moments, the same.
        reads_from: Vision block after which a deepstack merger reads; None for all others.
        tied_to: Path of the module whose weight this is too; None for all others.
        children: The nodes inside it.
    """

    name: str
    tower: Tower
    kind: str | None
    path: str
    modules: tuple[str, ...]
    words: Words
    num_parameters: int
    num_trainable: int
    dtype: str
    how: str | None
    rank: int | None
    alpha: int | None
    learning_rates: tuple[float | None, ...]
    weight_decay: float | None
    stages: tuple[int, ...]
    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    reads_from: int | None = None
    tied_to: str | None = None
    children: tuple[MapNode, ...] = ()


def map_model(
    model: PreTrainedModel, family: MappedFamily, plan: TuningPlan | None = None
) -> tuple[MapNode, ...]:
    """The towers of a model with what is inside them.

    Args:
        model: The plain model on the meta device. The plan is put on it: use it no further.
        family: Its family.
        plan: Its plan; None for the model alone.
    """
    owners: dict[Place, list[str]] = {}
    for name, module in model.named_modules():
        if any(True for _ in module.parameters(recurse=False)):
            owners.setdefault(place_of(name, family.modules), []).append(name)
    is_tied = ties_head(model, family)
    if plan is None:
        rows = plan_rows(model, _untouched(owners), family)
    else:
        # PEFT fills LoRA's factors with numbers on the CPU unless it is told where they belong.
        with torch.device("meta"):
            rows = plan_rows(apply_plan(model, plan), plan, family)
    places = [Place(row.tower, row.block, row.kind) for row in rows]
    leaves = {
        place: _leaf(row, place, owners[place], has_plan=plan is not None)
        for row, place in zip(rows, places, strict=True)
    }
    if is_tied:
        [embeddings] = [leaf for place, leaf in leaves.items() if place.tower == "embeddings"]
        [head] = [place for place in owners if place.tower == "head"]
        leaves[head] = _tied(embeddings, head, family)
    return tuple(_tower(tower, leaves) for tower in TOWERS)


def map_record(
    nodes: Sequence[MapNode],
    plan: TuningPlan | None,
    *,
    model: str,
    family: MappedFamily,
    dtype: torch.dtype,
) -> dict[str, Any]:
    """The map as ``sightline inspect model --json`` prints it.

    Args:
        nodes: The towers.
        plan: The plan; None for the model alone.
        model: Folder or hub id of the model.
        family: Its family.
        dtype: Dtype in which its weights are loaded.
    """
    counts = ("num_parameters", "num_trainable", "weight_bytes", "gradient_bytes")
    totals = {key: sum(getattr(node, key) for node in nodes) for key in counts}
    return {
        "schema": SCHEMA,
        "model": model,
        "family": {"key": family.key, "title": family.title},
        "dtype": str(dtype).removeprefix("torch."),
        "is_tied": any(node.tied_to for node in nodes),
        "totals": totals | {"optimizer_bytes": sum(node.optimizer_bytes for node in nodes)},
        "plan": _plan_record(plan) if plan is not None else None,
        "tree": [asdict(node) for node in nodes],
    }


def _plan_record(plan: TuningPlan) -> dict[str, Any]:
    return {
        "stages": [asdict(stage) for stage in plan.stages],
        "targets": [asdict(target) for target in plan.targets],
        "dora": plan.dora,
        "rslora": plan.rslora,
        "quantization": plan.quantization,
    }


def _untouched(owners: Mapping[Place, Iterable[str]]) -> TuningPlan:
    """A plan that leaves every module as it is, to count the weights of a model without one."""
    modules = tuple(
        PlannedModule(
            name=name,
            place=place,
            mode="freeze",
            rank=0,
            alpha=0,
            dropout=0.0,
            learning_rates=(None,),
            weight_decay=0.0,
        )
        for place, names in owners.items()
        for name in names
    )
    return TuningPlan(
        modules=modules,
        stages=(PlannedStage(name="none"),),
        full_modules=(),
        rank=1,
        alpha=1,
        dropout=0.0,
        dora=False,
        rslora=False,
        quantization="none",
        targets=(),
        is_tied=False,
    )


def _leaf(row: PlanRow, place: Place, names: list[str], *, has_plan: bool) -> MapNode:
    path = _common_path(names)
    rates = tuple(row.learning_rates) if has_plan else ()
    return MapNode(
        name=row.kind,
        tower=place.tower,
        kind=row.kind,
        path=path,
        modules=tuple(name.removeprefix(f"{path}.") for name in names if name != path),
        words=Words(
            tower=place.tower,
            blocks=place.number,
            kind=place.kind if place.kind in get_args(Kind) else None,
        ),
        num_parameters=row.num_parameters,
        num_trainable=row.num_trainable,
        dtype=row.dtype,
        how=row.how if has_plan else None,
        rank=row.rank,
        alpha=row.alpha,
        learning_rates=rates,
        weight_decay=row.weight_decay,
        stages=_stages(rates),
        weight_bytes=row.weight_bytes,
        gradient_bytes=row.gradient_bytes,
        optimizer_bytes=row.optimizer_bytes,
        reads_from=row.reads_from,
    )


def _tied(embeddings: MapNode, head: Place, family: MappedFamily) -> MapNode:
    """The head where it is the token embedding's own weight: it trains alike and adds nothing."""
    return replace(
        embeddings,
        name=head.kind,
        tower=head.tower,
        kind=head.kind,
        path=family.modules.head,
        words=Words(tower=head.tower),
        num_parameters=0,
        num_trainable=0,
        weight_bytes=0,
        gradient_bytes=0,
        optimizer_bytes=0,
        tied_to=family.modules.embeddings,
    )


def _tower(tower: Tower, leaves: Mapping[Place, MapNode]) -> MapNode:
    blocks: dict[str, list[MapNode]] = {}
    for place, leaf in leaves.items():
        if place.tower == tower:
            blocks.setdefault(place.block, []).append(leaf)
    children = tuple(_joined(name, inside) for name, inside in blocks.items())
    whole = _joined(tower, children)
    return replace(whole, words=Words(tower=tower))


def _joined(name: str, children: Sequence[MapNode]) -> MapNode:
    """A node that is the sum of what is inside it."""
    first = children[0]
    trained = [child for child in children if child.stages]
    rates = tuple(
        max((rate for rate in stage if rate is not None), default=None)
        for stage in zip(*(child.learning_rates for child in children), strict=True)
    )
    kind = _only(child.kind for child in children)
    return MapNode(
        name=name,
        tower=first.tower,
        kind=kind,
        path=_up_to(name, _common_path([child.path for child in children])),
        modules=(),
        words=replace(first.words, kind=first.words.kind if kind else None),
        num_parameters=sum(child.num_parameters for child in children),
        num_trainable=sum(child.num_trainable for child in children),
        dtype=_words_of(child.dtype for child in children),
        how=_words_of(child.how for child in trained or children) or None,
        rank=_only(child.rank for child in trained if child.rank is not None),
        alpha=_only(child.alpha for child in trained if child.alpha is not None),
        learning_rates=rates,
        weight_decay=_only(child.weight_decay for child in trained),
        stages=_stages(rates),
        weight_bytes=sum(child.weight_bytes for child in children),
        gradient_bytes=sum(child.gradient_bytes for child in children),
        optimizer_bytes=sum(child.optimizer_bytes for child in children),
        reads_from=_only(child.reads_from for child in children),
        tied_to=_only(child.tied_to for child in children),
        children=tuple(children),
    )


def _stages(rates: Sequence[float | None]) -> tuple[int, ...]:
    return tuple(number for number, rate in enumerate(rates, start=1) if rate is not None)


def _only(values: Iterable[_T]) -> _T | None:
    """The value that all have; None where they differ."""
    found = set(values)
    return found.pop() if len(found) == 1 else None


def _words_of(values: Iterable[str | None]) -> str:
    """Words that are joined by " + ", each once."""
    return " + ".join(
        dict.fromkeys(word for value in values if value for word in value.split(" + "))
    )


def _common_path(names: Sequence[str]) -> str:
    """The innermost module that holds all of these."""
    split = [name.split(".") for name in names]
    shared = takewhile(lambda level: len(set(level)) == 1, zip(*split, strict=False))
    return ".".join(level[0] for level in shared)


def _up_to(block: str, path: str) -> str:
    """The path of a block, where its only layer has a path below it."""
    before, found, _ = path.rpartition(f".{block}.")
    return before + found.removesuffix(".") if found else path
