"""Gradient checkpointing of the non-reentrant kind, and nothing that only the other kind needs."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedModel


def checkpoint_activations(model: Any) -> None:
    """Turn checkpointing on, as in training.

    Args:
        model: The planned model.
    """
    # The reentrant kind loses every vision gradient when the patch embedding is frozen.
    model.gradient_checkpointing_enable({"use_reentrant": False})
    drop_input_hooks(model)


def drop_input_hooks(model: nn.Module) -> None:
    """Let the outputs of embeddings be as they are.

    For the reentrant kind transformers makes those of the token embedding and of the patch
    embedding require a gradient when checkpointing is turned on. Here it would only send the
    backward pass through towers and blocks that are frozen.

    Args:
        model: The planned model, checkpointing being on.
    """
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            module.disable_input_require_grads()
