"""Writing what was trained: an adapter for PEFT, and a merged model for transformers."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from sightline.errors import ModelError
from sightline.model.adapter import PREPARATION_FILE, base_record
from sightline.model.checkpoint import Checkpoint
from sightline.model.quantized import QuantizedWeights
from sightline.records import atomic_directory, collect_versions, write_json


def preparation_record(checkpoint: Checkpoint) -> dict[str, Any]:
    """Everything that decides how media and boxes become what the model sees, by name.

    Args:
        checkpoint: An opened checkpoint: the base with the run's settings, or an exported folder.
    """
    family = checkpoint.family
    told: dict[str, Any] = asdict(checkpoint.preprocessing)
    # A limit on files that may be read at all is no property of the model.
    del told["max_file_pixels"]
    if checkpoint.recipes is not None:
        told["recipe"] = asdict(checkpoint.recipes)
    told["boxes"] = {"space": family.box_space, "text": family.box_text}
    return {"family": family.key, **_flat(told)}


def _flat(record: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            # As JSON gives it back.
            flat[f"{prefix}{name}"] = list(value) if isinstance(value, tuple) else value
    return flat


def save_adapter(
    model: PeftModel,
    checkpoint: Checkpoint,
    directory: Path,
    *,
    quantized: QuantizedWeights | None = None,
) -> None:
    """Write an adapter that plain PEFT loads on the base checkpoint.

    The processor stands beside it: the base's own has another pixel budget.

    Args:
        model: The trained model, before merging.
        checkpoint: Where the processor comes from; it carries the run's pixel budget.
        directory: Appears whole or not at all.
        quantized: Which weights of its base were quantised in training, to be quantised again.
    """
    with atomic_directory(directory, replace=True) as building:
        # Embeddings that train are in modules_to_save already; "auto" would ask the hub.
        model.save_pretrained(str(building), save_embedding_layers=False)
        told = {"base": base_record(model)}
        if quantized is not None:
            told["quantized"] = asdict(quantized)
        _save_preparation(checkpoint, building, told)


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
        model: The merged model. Its generation settings learn where answers end.
        checkpoint: Where the processor comes from; it carries the run's pixel budget.
        directory: Appears whole or not at all.
    """
    with atomic_directory(directory, replace=True) as building:
        _stop_after_answers(model, checkpoint)
        model.save_pretrained(str(building))
        _save_preparation(checkpoint, building, {})


def _stop_after_answers(model: PreTrainedModel, checkpoint: Checkpoint) -> None:
    """Let ``generate`` stop at the token that closes a turn.

    Base models that were never tuned on conversations stop at the end of a text alone.
    """
    settings = model.generation_config
    if settings is None:
        return
    tokens = checkpoint.family.tokens
    closing = checkpoint.processor.tokenizer.convert_tokens_to_ids(tokens.turn_end)
    known = settings.eos_token_id
    stops = known if isinstance(known, list) else [known] if known is not None else []
    if closing not in stops:
        settings.eos_token_id = [closing, *stops]


def _save_preparation(
    checkpoint: Checkpoint, directory: Path, told: dict[str, dict[str, Any] | None]
) -> None:
    checkpoint.processor.save_pretrained(str(directory))
    record = {"preparation": preparation_record(checkpoint), "versions": collect_versions()}
    record |= {key: value for key, value in told.items() if value is not None}
    write_json(directory / PREPARATION_FILE, record)
