"""The parameter table: what trains where, and how."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from sightline.config import TrainingConfig
from sightline.families import TrainableFamily
from sightline.tuning.apply import named_parameters
from sightline.tuning.plan import TuningPlan
from sightline.tuning.towers import TOWERS, Place, Tower, place_of


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanRow:
    """One block of the model.

    Attributes:
        tower: The tower.
        block: The block inside it.
        num_parameters: Weights of the block, LoRA factors left out.
        num_trainable: Values that train, LoRA factors included.
        how: freeze, lora or full.
        dtype: Dtype of the block's weights.
        learning_rate: Peak learning rate, or None where nothing trains.
    """

    tower: str
    block: str
    num_parameters: int
    num_trainable: int
    how: str
    dtype: str
    learning_rate: float | None


def learning_rate_of(tower: Tower, training: TrainingConfig) -> float:
    """Peak learning rate of a tower."""
    own = {
        "vision": training.vision_learning_rate,
        "projector": training.projector_learning_rate,
    }.get(tower)
    return training.learning_rate if own is None else own


def plan_rows(
    model: nn.Module, plan: TuningPlan, family: TrainableFamily, training: TrainingConfig
) -> list[PlanRow]:
    """The table of a planned model, towers in the order of the data's flow."""
    counts: dict[Place, list[int]] = {}
    dtypes: dict[Place, str] = {}
    for item in named_parameters(model):
        place = place_of(item.name, family.modules)
        count = counts.setdefault(place, [0, 0])
        size = item.parameter.numel()
        if not item.is_adapter and not item.is_copy:
            count[0] += size
            dtypes[place] = str(item.parameter.dtype).removeprefix("torch.")
        if item.parameter.requires_grad:
            count[1] += size
    return [
        PlanRow(
            tower=place.tower,
            block=place.block,
            num_parameters=count[0],
            num_trainable=count[1],
            how=plan.modes[place.tower] if count[1] else "freeze",
            dtype=dtypes[place],
            learning_rate=learning_rate_of(place.tower, training) if count[1] else None,
        )
        for place, count in sorted(counts.items(), key=lambda item: TOWERS.index(item[0].tower))
    ]


def plan_record(rows: list[PlanRow], plan: TuningPlan) -> dict[str, Any]:
    """The content of ``plan.json``."""
    lora = {
        "rank": plan.rank,
        "alpha": plan.alpha,
        "dropout": plan.dropout,
        "target_modules": list(plan.lora_modules),
    }
    return {
        "rows": [asdict(row) for row in rows],
        "totals": {
            "num_parameters": sum(row.num_parameters for row in rows),
            "num_trainable": sum(row.num_trainable for row in rows),
        },
        "lora": lora if plan.uses_lora else None,
        "full_modules": list(plan.full_modules),
    }
