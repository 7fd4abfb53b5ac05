"""Putting a plan on a model, and proving that it is there."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel

from sightline.errors import PlanError
from sightline.families import MappedFamily
from sightline.tuning.plan import PlannedModule, TuningPlan
from sightline.tuning.towers import place_of

_PEFT_PARTS = re.compile(
    r"\.(base_layer|original_module|modules_to_save\.default"
    r"|lora_((embedding_)?[AB]|magnitude_vector)(\.default)?)(?=\.|$)"
)
_FACTOR = re.compile(r"\.lora_(?:embedding_)?(A|B|magnitude)")
_PEFT_PREFIX = "base_model.model."


class NamedParameter(NamedTuple):
    """A parameter of a planned model, by the name it has in the plain model.

    Attributes:
        name: Dotted name in the plain model.
        parameter: The tensor.
        factor: A or B of LoRA, magnitude of DoRA; empty for a weight of the model itself.
        is_copy: Whether it is the frozen original of a module that trains in full beside LoRA.
    """

    name: str
    parameter: nn.Parameter
    factor: str
    is_copy: bool

    @property
    def is_adapter(self) -> bool:
        """Whether it was added to the model."""
        return bool(self.factor)


def apply_plan(model: PreTrainedModel, plan: TuningPlan) -> PreTrainedModel | PeftModel:
    """Freeze, unfreeze and adapt the model's parameters as the plan says.

    Everything that trains in any stage is made ready; `enter_stage` then says what does now.
    Trainable weights are kept in float32: an update in bf16 would round small steps away.

    Args:
        model: The loaded model.
        plan: The resolved plan.

    Returns:
        The model itself, or PEFT's wrapper around it where LoRA is used, in its first stage.
    """
    if not plan.uses_lora:
        full = {module.name for module in plan.modules if module.mode == "full"}
        for name, module in model.named_modules():
            for parameter in module.parameters(recurse=False):
                if name in full:
                    parameter.requires_grad_(True)
        _freeze_the_rest(model, plan)
        _train_in_float32(model)
        enter_stage(model, plan, 0)
        return model
    adapted = get_peft_model(model, lora_config(plan))
    _set_dropout(adapted, plan)
    # PEFT and transformers make the outputs of both embeddings require a gradient, for the
    # reentrant kind of checkpointing. Here it would send the backward pass through frozen towers.
    if hasattr(model, "_require_grads_hooks"):
        model.disable_input_require_grads()
    _train_in_float32(adapted)
    enter_stage(adapted, plan, 0)
    return adapted


def lora_config(plan: TuningPlan) -> LoraConfig:
    """The plan as PEFT knows it, and as the adapter's folder keeps it."""
    lora = [module for module in plan.modules if module.mode == "lora"]
    return LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=plan.rank,
        lora_alpha=plan.alpha,
        lora_dropout=plan.dropout,
        use_dora=plan.dora,
        use_rslora=plan.rslora,
        # Full dotted names: a bare `mlp.0` or `proj` would also hit modules of other towers.
        target_modules=[module.name for module in lora],
        rank_pattern={_pattern(one): one.rank for one in lora if one.rank != plan.rank},
        alpha_pattern={_pattern(one): one.alpha for one in lora if one.alpha != plan.alpha},
        modules_to_save=list(plan.full_modules) or None,
    )


def enter_stage(model: nn.Module, plan: TuningPlan, stage: int | None) -> None:
    """Let train what a stage trains, and nothing else.

    Args:
        model: The planned model.
        plan: Its plan.
        stage: Number of the stage, 0-based; None for everything that trains in any stage.
    """
    planned = plan.by_name()
    for item in named_parameters(model):
        item.parameter.requires_grad_(_should_train(item, planned, stage))


def named_parameters(model: nn.Module) -> list[NamedParameter]:
    """Every parameter by its plain name, whatever PEFT wrapped around it."""
    found = []
    for name, parameter in model.named_parameters():
        plain = _PEFT_PARTS.sub("", name)
        if isinstance(model, PeftModel):
            plain = plain.removeprefix(_PEFT_PREFIX)
        found.append(
            NamedParameter(
                name=plain,
                parameter=parameter,
                factor=_factor(name),
                is_copy=".original_module." in name,
            )
        )
    return found


def trained_parameters(model: nn.Module, plan: TuningPlan) -> list[NamedParameter]:
    """Every parameter that trains in any stage."""
    planned = plan.by_name()
    return [item for item in named_parameters(model) if _should_train(item, planned, None)]


def _factor(name: str) -> str:
    found = _FACTOR.search(name)
    return found[1] if found is not None else ""


def owner_of(item: NamedParameter) -> str:
    """Name of the module that a parameter belongs to, as the plan has it."""
    if item.is_adapter:
        return item.name.removesuffix(".weight")
    return item.name.rpartition(".")[0]


def refuse_unlike_plan(
    model: nn.Module, plan: TuningPlan, family: MappedFamily, stage: int = 0
) -> None:
    """Compare what will train with what the plan says.

    Args:
        model: The planned model.
        plan: Its plan.
        family: Its family.
        stage: Number of the stage, 0-based.

    Raises:
        PlanError: A parameter trains that should not, or does not that should.
    """
    planned = plan.by_name()
    adapted: set[str] = set()
    for item in named_parameters(model):
        owner = planned.get(owner_of(item))
        if owner is None:
            place = place_of(item.name, family.modules)
            raise PlanError(f"{item.name} ({place.tower}) is in the model but not in the plan.")
        trains = item.parameter.requires_grad
        if trains != _should_train(item, planned, stage):
            said = owner.mode if owner.trains_in(stage) else "freeze"
            raise PlanError(
                f"{item.name} {'trains' if trains else 'is frozen'}, but the plan says {said}."
            )
        if item.is_adapter:
            adapted.add(owner.name)
    if adapted != set(plan.lora_modules):
        raise PlanError(
            f"{len(adapted)} modules carry LoRA, the plan names {len(plan.lora_modules)}."
        )


def _should_train(
    item: NamedParameter, planned: dict[str, PlannedModule], stage: int | None
) -> bool:
    owner = planned[owner_of(item)]
    if stage is not None and not owner.trains_in(stage):
        return False
    return item.is_adapter or (owner.mode == "full" and not item.is_copy)


def _freeze_the_rest(model: nn.Module, plan: TuningPlan) -> None:
    planned = plan.by_name()
    for item in named_parameters(model):
        if planned[owner_of(item)].mode == "freeze":
            item.parameter.requires_grad_(False)


def _pattern(module: PlannedModule) -> str:
    return re.escape(module.name)


def _set_dropout(model: PeftModel, plan: TuningPlan) -> None:
    """PEFT has one dropout for all layers; it matters in training only, so it is set here."""
    planned = plan.by_name()
    for name, module in model.named_modules():
        if not isinstance(module, LoraLayer):
            continue
        owner = planned[_PEFT_PARTS.sub("", name).removeprefix(_PEFT_PREFIX)]
        if owner.dropout != plan.dropout:
            layers: Any = module.lora_dropout
            layers["default"] = nn.Dropout(owner.dropout) if owner.dropout else nn.Identity()


def _train_in_float32(model: nn.Module) -> None:
    # Parameters one by one, never `model.float()`: buffers keep the dtype they were loaded in.
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype in (torch.bfloat16, torch.float16):
            parameter.data = parameter.data.float()
