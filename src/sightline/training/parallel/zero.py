"""DeepSpeed's ZeRO through the Trainer's own integration: its configuration, and what is whole.

Stage 1 shares out the optimizer, stage 2 the gradients besides, stage 3 the weights besides.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import torch
from torch import nn
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from sightline.config import TrainingConfig
from sightline.model import borrowed_parameters
from sightline.training.parallel.engine import ZERO_STAGES, uses_deepspeed

_TELLS_ACCELERATE = "ACCELERATE_USE_DEEPSPEED"


def announce_deepspeed(training: TrainingConfig) -> None:
    """Let accelerate start DeepSpeed's communication; before the processes meet.

    Args:
        training: The configuration's section.
    """
    if uses_deepspeed(training):
        os.environ[_TELLS_ACCELERATE] = "true"


def deepspeed_config(training: TrainingConfig, *, bf16: bool) -> dict[str, Any] | None:
    """DeepSpeed's configuration for a run; None where another engine is used.

    Nothing is offloaded. A micro-batch is what a run's plan says, so DeepSpeed counts none: the
    trainer tells it which is the last of a step.

    Args:
        training: The configuration's section.
        bf16: Whether weights are bf16.
    """
    if not uses_deepspeed(training):
        return None
    on_gpu = torch.cuda.is_available()
    return {
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": 1,
        "gradient_clipping": training.max_grad_norm,
        "bf16": {"enabled": bf16},
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {
            "stage": ZERO_STAGES[training.parallel],
            "overlap_comm": on_gpu,
            "contiguous_gradients": True,
            "stage3_gather_16bit_weights_on_model_save": False,
        },
    }


def tell_what_is_borrowed(model: nn.Module) -> None:
    """Let stage 3 bring weights together for modules that compute with those of others.

    It notices by itself once such a weight is missing. By then it has recorded the order in which
    weights are needed, and stops at the next call: "tracing error".

    Args:
        model: The planned model, before DeepSpeed takes it.
    """
    zero: Any = import_module("deepspeed").zero
    for module, parameter in borrowed_parameters(model):
        zero.register_external_parameter(module, parameter)


def is_partitioned(tensor: torch.Tensor) -> bool:
    """Whether a parameter is shared out by stage 3; small ones stay whole, and are so as well.

    Args:
        tensor: A parameter.
    """
    return hasattr(tensor, "ds_tensor")


def gathered(tensor: torch.Tensor) -> torch.Tensor:
    """All of a parameter of stage 3, in every process; a copy. All have to ask for it.

    Args:
        tensor: The parameter.
    """
    zero: Any = import_module("deepspeed").zero
    with zero.GatheredParameters([tensor]):
        return tensor.detach().clone()


def forget_deepspeed() -> None:
    """Let a model that is loaded from now on be whole: while ZeRO 3 is known, transformers shares
    out each as it is loaded, and one process that loads alone would wait for the others."""
    unset_hf_deepspeed_config()
