"""Which layers a plan lets be held in 4 or 8 bits."""

from __future__ import annotations

from torch import nn

from sightline.errors import PlanError
from sightline.tuning.plan import TuningPlan


def quantized_modules(model: nn.Module, plan: TuningPlan) -> tuple[str, ...]:
    """Linear layers of the language model that the plan freezes or adapts by LoRA.

    What trains in full in any stage is not among them, nor anything of another tower: the vision
    tower and the projector are small, and rounding them moves every picture.

    Args:
        model: The model that was planned, before PEFT; the meta device is enough.
        plan: Its plan.

    Returns:
        Full dotted names; none where the plan asks for no quantisation.

    Raises:
        PlanError: The plan asks for it, but adapts nothing of the language model by LoRA; or for
            8 bits and DoRA.
    """
    kind = plan.quantization
    if kind == "none":
        return ()
    if kind == "int8" and plan.dora:
        raise PlanError(
            "tuning.quantization is int8 and tuning.lora.dora is true: DoRA takes the weight apart "
            "in every pass, and there PEFT loses the scales of 8-bit weights on the CPU.\n"
            "Set tuning.quantization: nf4, or tuning.lora.dora: false."
        )
    found = tuple(
        module.name
        for module in plan.modules
        if module.place.tower == "language"
        and module.mode != "full"
        and isinstance(model.get_submodule(module.name), nn.Linear)
    )
    if not set(found) & set(plan.lora_modules):
        modes = " and ".join(sorted(plan.modes_of("language")))
        raise PlanError(
            f"tuning.quantization is {kind}, but tuning.language is {modes}: it is the language "
            "model that is quantised, and a quantised weight learns through LoRA alone.\n"
            "Set tuning.language: lora, or tuning.quantization: none."
        )
    return found
