"""The parameter table: what trains where, how and when, as ``plan.json`` keeps it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from math import prod
from operator import attrgetter
from typing import Any

from torch import nn

from sightline.families import MappedFamily
from sightline.tuning.apply import NamedParameter, named_parameters, owner_of
from sightline.tuning.plan import PlannedModule, TuningPlan
from sightline.tuning.towers import TOWERS, Place, Tower, place_of

# AdamW keeps two moments of every value that trains, in its own dtype.
_MOMENTS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanRow:
    """Layers of one kind in one block of the model.

    Attributes:
        tower: The tower.
        block: The block inside it.
        kind: Kind of the layers: attention, mlp, norm, embedding, merger, deepstack or head.
        num_parameters: Weights of the model in them, LoRA factors left out; a weight with two
            names counts once.
        num_trainable: Values that train in any stage, LoRA factors included.
        how: freeze, lora or full.
        rank: LoRA rank; None where there is none.
        alpha: LoRA alpha; None where there is none.
        dtype: Dtype of the weights.
        learning_rates: Peak learning rate in each stage; None where nothing trains.
        weight_decay: AdamW's decay of weight matrices; None where nothing trains.
        weight_bytes: Bytes of weights, factors and copies.
        gradient_bytes: Bytes of gradients, where everything of the plan trains at once.
        optimizer_bytes: Bytes of AdamW's moments, the same.
        reads_from: Vision block after which a deepstack merger reads; None for all others.
    """

    tower: Tower
    block: str
    kind: str
    num_parameters: int
    num_trainable: int
    how: str
    rank: int | None
    alpha: int | None
    dtype: str
    learning_rates: list[float | None]
    weight_decay: float | None
    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    reads_from: int | None = None


@dataclass(slots=True)
class _Sums:
    """What adds up to a row."""

    modules: dict[str, PlannedModule] = field(default_factory=dict)
    num_parameters: int = 0
    num_trainable: int = 0
    weight_bytes: int = 0
    gradient_bytes: int = 0
    dtype: str = ""

    def add(self, item: NamedParameter, module: PlannedModule) -> None:
        size, width = _num_values(item.parameter), item.parameter.element_size()
        self.modules[module.name] = module
        self.weight_bytes += item.parameter.nbytes
        if not item.is_adapter and not item.is_copy:
            self.num_parameters += size
            self.dtype = self.dtype or _held_in(item.parameter)
        if item.is_adapter or (module.mode == "full" and not item.is_copy):
            self.num_trainable += size
            self.gradient_bytes += size * width

    def row(self, place: Place, num_stages: int, reads_from: int | None) -> PlanRow:
        trained = [module for module in self.modules.values() if module.mode != "freeze"]
        lora = [module for module in trained if module.mode == "lora"]
        rates = [
            max((r for m in trained if (r := m.learning_rates[stage]) is not None), default=None)
            for stage in range(num_stages)
        ]
        return PlanRow(
            tower=place.tower,
            block=place.block,
            kind=place.kind,
            num_parameters=self.num_parameters,
            num_trainable=self.num_trainable,
            how=trained[0].mode if trained else "freeze",
            rank=max(module.rank for module in lora) if lora else None,
            alpha=max(module.alpha for module in lora) if lora else None,
            dtype=self.dtype,
            learning_rates=rates,
            weight_decay=max(m.weight_decay for m in trained) if trained else None,
            weight_bytes=self.weight_bytes,
            gradient_bytes=self.gradient_bytes,
            optimizer_bytes=_MOMENTS * self.gradient_bytes,
            reads_from=reads_from,
        )


def _num_values(parameter: nn.Parameter) -> int:
    """Values of a weight; in 4 bits two of them share a byte."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else prod(state.shape)


def _held_in(parameter: nn.Parameter) -> str:
    state = getattr(parameter, "quant_state", None)
    return str(parameter.dtype).removeprefix("torch.") if state is None else state.quant_type


def plan_rows(model: nn.Module, plan: TuningPlan, family: MappedFamily) -> list[PlanRow]:
    """The table of a planned model, towers in the order of the data's flow.

    Args:
        model: The planned model; the meta device is enough.
        plan: Its plan.
        family: Its family.
    """
    planned = plan.by_name()
    sums: dict[Place, _Sums] = {}
    for item in named_parameters(model):
        place = place_of(item.name, family.modules)
        sums.setdefault(place, _Sums()).add(item, planned[owner_of(item)])
    order = sorted(sums, key=lambda place: TOWERS.index(place.tower))
    sources = deepstack_sources(model, family)
    return [sums[place].row(place, len(plan.stages), sources.get(place)) for place in order]


def deepstack_sources(model: nn.Module, family: MappedFamily) -> dict[Place, int]:
    """The vision block after which each deepstack merger reads.

    Args:
        model: The model, planned or not.
        family: Its family.
    """
    path = family.modules.deepstack_blocks
    if path is None:
        return {}
    blocks = attrgetter(path)(model.config)
    return {
        place_of(f"{root}.{index}", family.modules): int(block)
        for root in family.modules.projectors[1:]
        for index, block in enumerate(blocks)
    }


def plan_record(rows: list[PlanRow], plan: TuningPlan) -> dict[str, Any]:
    """The content of ``plan.json``.

    Args:
        rows: The table.
        plan: The plan.
    """
    lora = {
        "rank": plan.rank,
        "alpha": plan.alpha,
        "dropout": plan.dropout,
        "dora": plan.dora,
        "rslora": plan.rslora,
        "target_modules": list(plan.lora_modules),
    }
    totals = ("num_parameters", "num_trainable", "weight_bytes", "gradient_bytes")
    return {
        "schema": 2,
        "rows": [asdict(row) for row in rows],
        "totals": {key: sum(getattr(row, key) for row in rows) for key in totals}
        | {"optimizer_bytes": sum(row.optimizer_bytes for row in rows)},
        "lora": lora if plan.uses_lora else None,
        "full_modules": list(plan.full_modules),
        "quantization": plan.quantization,
        "targets": [asdict(target) for target in plan.targets],
        "is_tied": plan.is_tied,
        "stages": [asdict(stage) for stage in plan.stages],
    }
