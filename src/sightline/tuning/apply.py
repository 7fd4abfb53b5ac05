"""Putting a plan on a model, and proving that it is there."""

from __future__ import annotations

import re
from typing import NamedTuple

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from sightline.errors import PlanError
from sightline.families import TrainableFamily
from sightline.tuning.plan import TuningPlan
from sightline.tuning.towers import place_of

_PEFT_PARTS = re.compile(
    r"\.(base_layer|original_module|modules_to_save\.default|lora_(embedding_)?[AB]"
    r"(\.default)?)(?=\.|$)"
)


class NamedParameter(NamedTuple):
    """A parameter of a planned model, by the name it has in the plain model.

    Attributes:
        name: Dotted name in the plain model.
        parameter: The tensor.
        is_adapter: Whether it is a LoRA factor.
        is_copy: Whether it is the frozen original of a module that trains in full beside LoRA.
    """

    name: str
    parameter: nn.Parameter
    is_adapter: bool
    is_copy: bool


def apply_plan(model: PreTrainedModel, plan: TuningPlan) -> PreTrainedModel | PeftModel:
    """Freeze, unfreeze and adapt the model's parameters as the plan says.

    Trainable weights are kept in float32: an update in bf16 would round small steps away.

    Args:
        model: The loaded model.
        plan: The resolved plan.

    Returns:
        The model itself, or PEFT's wrapper around it where LoRA is used.
    """
    if not plan.uses_lora:
        full = tuple(f"{name}." for name in plan.full_modules)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(full))
        _train_in_float32(model)
        return model
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=plan.rank,
        lora_alpha=plan.alpha,
        lora_dropout=plan.dropout,
        # Full dotted names: a bare `mlp.0` or `proj` would also hit modules of other towers.
        target_modules=list(plan.lora_modules),
        modules_to_save=list(plan.full_modules) or None,
    )
    adapted = get_peft_model(model, config)
    _train_in_float32(adapted)
    return adapted


def named_parameters(model: nn.Module) -> list[NamedParameter]:
    """Every parameter by its plain name, whatever PEFT wrapped around it."""
    found = []
    for name, parameter in model.named_parameters():
        plain = _PEFT_PARTS.sub("", name)
        if isinstance(model, PeftModel):
            plain = plain.removeprefix("base_model.model.")
        found.append(
            NamedParameter(
                name=plain,
                parameter=parameter,
                is_adapter=".lora_" in name,
                is_copy=".original_module." in name,
            )
        )
    return found


def refuse_unlike_plan(model: nn.Module, plan: TuningPlan, family: TrainableFamily) -> None:
    """Compare what will train with what the plan says.

    Raises:
        PlanError: A parameter trains that should not, or does not that should.
    """
    adapted: set[str] = set()
    for item in named_parameters(model):
        mode = plan.modes[place_of(item.name, family.modules).tower]
        trains = item.parameter.requires_grad
        wanted = item.is_adapter or (mode == "full" and not item.is_copy)
        if trains != wanted:
            raise PlanError(
                f"{item.name} {'trains' if trains else 'is frozen'}, but the plan says {mode}."
            )
        if item.is_adapter:
            adapted.add(re.sub(r"\.weight$", "", item.name))
    if adapted != set(plan.lora_modules):
        raise PlanError(
            f"{len(adapted)} modules carry LoRA, the plan names {len(plan.lora_modules)}."
        )


def _train_in_float32(model: nn.Module) -> None:
    # Parameters one by one, never `model.float()`: buffers keep the dtype they were loaded in.
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype in (torch.bfloat16, torch.float16):
            parameter.data = parameter.data.float()
