"""Writing what was trained: an adapter for PEFT, and a merged model for transformers."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from sightline.errors import ModelError
from sightline.model.checkpoint import Checkpoint
from sightline.records import atomic_directory


def save_adapter(model: PeftModel, directory: Path) -> None:
    """Write an adapter that plain PEFT loads on the base checkpoint.

    Args:
        model: The trained model, before merging.
        directory: Appears whole or not at all.
    """
    with atomic_directory(directory, replace=True) as building:
        # Embeddings that train are in modules_to_save already; "auto" would ask the hub.
        model.save_pretrained(str(building), save_embedding_layers=False)


def merge(model: PreTrainedModel | PeftModel, dtype: torch.dtype) -> PreTrainedModel:
    """The plain model with adapters folded into its weights, every weight in ``dtype``.

    Args:
        model: The trained model. A PEFT model is used up by this.
        dtype: Dtype of the saved weights: the one the base was loaded in.

    Raises:
        ModelError: An adapter holds values that are not finite.
    """
    if isinstance(model, PeftModel):
        try:
            plain = model.merge_and_unload(safe_merge=True)
        except ValueError as error:
            raise ModelError(f"the adapter cannot be merged: {error}") from error
    else:
        plain = model
    assert isinstance(plain, PreTrainedModel)
    for parameter in plain.parameters():
        parameter.requires_grad_(False)
        # One by one: casting the model would round the rotary frequencies too.
        if parameter.dtype != dtype and parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    return plain.eval()


def save_merged(model: PreTrainedModel, checkpoint: Checkpoint, directory: Path) -> None:
    """Write a folder that plain transformers loads: weights, processor, template, generation.

    Args:
        model: The merged model.
        checkpoint: Where the processor comes from; it carries the run's pixel budget.
        directory: Appears whole or not at all.
    """
    with atomic_directory(directory, replace=True) as building:
        model.save_pretrained(str(building))
        checkpoint.processor.save_pretrained(str(building))
