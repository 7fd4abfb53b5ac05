"""The model of a run: loaded, taught what training needs, with its plan on it."""

from __future__ import annotations

from typing import Any

import torch

from sightline.config import TrainingConfig
from sightline.model import (
    Checkpoint,
    QuantizedWeights,
    attend_by_segments,
    compile_blocks,
    follow_engine,
    load_weights,
    return_losses,
    take_raw_pixels,
)
from sightline.tuning import TuningPlan, apply_plan, refuse_unlike_plan


def load_model(
    checkpoint: Checkpoint,
    *,
    dtype: torch.dtype,
    takes_raw: bool,
    quantized: QuantizedWeights | None = None,
    device: torch.device | None = None,
) -> Any:
    """A checkpoint's model, which takes packed rows and, where the run does, raw pixels.

    Args:
        checkpoint: The opened checkpoint.
        dtype: Dtype of the weights.
        takes_raw: Whether pixels are grey levels.
        quantized: Which weights are held in 4 or 8 bits; None is none of them.
        device: Where a quantised model is put. Any other stays on the CPU.

    Raises:
        ModelError: Files are missing or broken.
    """
    model = load_weights(checkpoint.source, dtype=dtype, quantized=quantized, device=device)
    attend_by_segments(model, checkpoint.family)
    if takes_raw:
        assert checkpoint.recipes is not None
        take_raw_pixels(model, checkpoint.family, checkpoint.recipes)
    return model


def plan_model(
    model: Any, checkpoint: Checkpoint, plan: TuningPlan, training: TrainingConfig
) -> Any:
    """Put a plan on a model, which from then on returns losses and gets its positions from us.

    Args:
        model: What `load_model` gave.
        checkpoint: Its checkpoint.
        plan: The resolved plan.
        training: The configuration's section.

    Returns:
        The model, or PEFT's around it.

    Raises:
        PlanError: What trains is not what the plan says.
    """
    follow_engine(model, checkpoint.position_rule, check_given=False)
    planned = apply_plan(return_losses(model, kind=training.head_loss), plan)
    refuse_unlike_plan(planned, plan, checkpoint.family)
    if training.compile:
        # Before weights are shared: FSDP puts its hooks around compiled blocks.
        compile_blocks(planned, checkpoint.family)
    return planned
