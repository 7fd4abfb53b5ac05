"""The map of a model: its towers, blocks and layers as a tree, with what a plan does to each.

The meta device is enough, so the map of a model of any size takes seconds and no memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from sightline.families import MappedFamily
from sightline.tuning.apply import apply_plan
from sightline.tuning.plan import PlannedModule, PlannedStage, TuningPlan
from sightline.tuning.resolve import ties_head
from sightline.tuning.table import PlanRow, plan_rows
from sightline.tuning.towers import TOWERS, Place, Tower, place_of

SCHEMA = 1


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
        modules: Its modules that own weights, below ``path``.
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
    leaves = [
        _leaf(row, owners[Place(row.tower, row.block, row.kind)], has_plan=plan is not None)
        for row in rows
    ]
    if is_tied:
        leaves.append(_tied_head(leaves, owners, family))
    return tuple(
        _tower(tower, [leaf for leaf in leaves if leaf[0].tower == tower], family)
        for tower in TOWERS
    )


def map_record(
    nodes: Sequence[MapNode], plan: TuningPlan | None, *, model: str, family: MappedFamily
) -> dict[str, Any]:
    """The map as ``sightline inspect model --json`` prints it.

    Args:
        nodes: The towers.
        plan: The plan; None for the model alone.
        model: Folder or hub id of the model.
        family: Its family.
    """
    counts = ("num_parameters", "num_trainable", "weight_bytes", "gradient_bytes")
    totals = {key: sum(getattr(node, key) for node in nodes) for key in counts}
    return {
        "schema": SCHEMA,
        "model": model,
        "family": {"key": family.key, "title": family.title},
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


# A leaf, and the row's place: a block is found again by its name.
_Leaf = tuple[Place, MapNode]


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


def _leaf(row: PlanRow, names: list[str], *, has_plan: bool) -> _Leaf:
    place = Place(row.tower, row.block, row.kind)
    path = _common_path(names)
    rates = tuple(row.learning_rates) if has_plan else ()
    return place, MapNode(
        name=row.kind,
        tower=place.tower,
        kind=row.kind,
        path=path,
        modules=_below(path, names),
        words=Words(tower=place.tower, blocks=place.number, kind=_kind_word(place)),
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


def _tied_head(
    leaves: list[_Leaf], owners: Mapping[Place, list[str]], family: MappedFamily
) -> _Leaf:
    """The head of a model in which it is the token embedding's own weight: it adds nothing."""
    [other] = [leaf for place, leaf in leaves if place.tower == "embeddings"]
    place = next(place for place in owners if place.tower == "head")
    return place, MapNode(
        name=place.kind,
        tower=place.tower,
        kind=place.kind,
        path=family.modules.head,
        modules=(family.modules.head,),
        words=Words(tower=place.tower),
        num_parameters=0,
        num_trainable=0,
        dtype=other.dtype,
        how=other.how,
        rank=other.rank,
        alpha=other.alpha,
        learning_rates=other.learning_rates,
        weight_decay=other.weight_decay,
        stages=other.stages,
        weight_bytes=0,
        gradient_bytes=0,
        optimizer_bytes=0,
        tied_to=family.modules.embeddings,
    )


def _tower(tower: Tower, leaves: list[_Leaf], family: MappedFamily) -> MapNode:
    blocks: dict[str, list[_Leaf]] = {}
    for place, leaf in leaves:
        blocks.setdefault(place.block, []).append((place, leaf))
    children = tuple(_block(name, inside) for name, inside in blocks.items())
    roots = {
        "vision": family.modules.vision,
        "language": family.modules.language,
        "embeddings": family.modules.embeddings,
        "head": family.modules.head,
    }
    path = roots.get(tower) or _common_path([child.path for child in children])
    return _joined(tower, path, Words(tower=tower), children)


def _block(name: str, leaves: list[_Leaf]) -> MapNode:
    place, first = leaves[0]
    children = tuple(leaf for _, leaf in leaves)
    path = _common_path([f"{leaf.path}.{module}" for _, leaf in leaves for module in leaf.modules])
    path = path[: path.rindex(name) + len(name)] if name in path else path
    words = Words(
        tower=place.tower,
        blocks=place.number,
        kind=first.words.kind if len(children) == 1 else None,
    )
    return _joined(name, path, words, children)


def _joined(name: str, path: str, words: Words, children: tuple[MapNode, ...]) -> MapNode:
    """A node that is the sum of what is inside it."""
    trained = [child for child in children if child.stages]
    num_stages = max(len(child.learning_rates) for child in children)
    rates = tuple(
        max((r for child in children if (r := child.learning_rates[n]) is not None), default=None)
        for n in range(num_stages)
    )
    kinds = {child.kind for child in children}
    decays = {child.weight_decay for child in trained}
    return MapNode(
        name=name,
        tower=children[0].tower,
        kind=children[0].kind if len(kinds) == 1 else None,
        path=path,
        modules=tuple(
            one for child in children for one in _below(path, [child.path], child.modules)
        ),
        words=words,
        num_parameters=sum(child.num_parameters for child in children),
        num_trainable=sum(child.num_trainable for child in children),
        dtype=" + ".join(dict.fromkeys(d for c in children for d in c.dtype.split(" + "))),
        how=_joined_modes(children),
        rank=_one({child.rank for child in trained} - {None}),
        alpha=_one({child.alpha for child in trained} - {None}),
        learning_rates=rates,
        weight_decay=_one(decays),
        stages=_stages(rates),
        weight_bytes=sum(child.weight_bytes for child in children),
        gradient_bytes=sum(child.gradient_bytes for child in children),
        optimizer_bytes=sum(child.optimizer_bytes for child in children),
        reads_from=_one({child.reads_from for child in children}),
        tied_to=_one({child.tied_to for child in children}),
        children=children,
    )
