"""Loading weights, whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, PreTrainedModel

from sightline.errors import ModelError, first_line
from sightline.model.checkpoint import Architecture, Checkpoint
from sightline.model.pickles import refuse_pickles
from sightline.model.quantized import QuantizedWeights, settle
from sightline.model.tiny import TINY_FAMILIES, make_tiny_model

TINY_PREFIX = "tiny:"


def tiny_folder(spec: str, output: Path) -> Path:
    """Where commands make and keep the tiny model of a configuration, beside its run directory.

    Args:
        spec: The configuration's ``model``.
        output: The configuration's ``output``.

    >>> tiny_folder("tiny:qwen2_vl", Path("runs/first")).as_posix()
    'runs/tiny/qwen2_vl'
    """
    return output.parent / "tiny" / (spec.partition(":")[2] or "none")


def resolve_model(spec: str, tiny_directory: Path) -> str:
    """The folder or hub id that a configuration's ``model`` means.

    Args:
        spec: A folder, a hub id, or ``tiny:FAMILY`` for a tiny random model made on the spot.
        tiny_directory: Where a tiny model is made, or found when it was made before.

    Raises:
        ModelError: The tiny family is not known.
    """
    if not spec.startswith(TINY_PREFIX):
        return spec
    family = spec.removeprefix(TINY_PREFIX)
    if family not in TINY_FAMILIES:
        raise ModelError(f"model {spec!r}: tiny families are {', '.join(TINY_FAMILIES)}.")
    if not (tiny_directory / "config.json").is_file():
        make_tiny_model(family, tiny_directory)
    return str(tiny_directory)


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Weights' dtype for a run: bf16 where the device computes it, else fp32.

    fp16 is never chosen: activations of these models overflow it.
    """
    if precision == "fp32":
        return torch.float32
    if precision == "bf16":
        return torch.bfloat16
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return torch.float32


def load_weights(
    source: str,
    *,
    dtype: torch.dtype,
    quantized: QuantizedWeights | None = None,
    device: torch.device | None = None,
) -> PreTrainedModel:
    """Load a checkpoint's model in ``dtype``, on the CPU, in evaluation mode.

    The dtype is given at loading. Casting a loaded model would round the rotary frequencies:
    4.7 rad off at position 4096 in bf16.

    Args:
        source: Folder or hub id.
        dtype: Dtype of the weights.
        quantized: Which of them are held in 4 or 8 bits instead; None is none of them.
        device: Where a quantised model is put, which is where it is quantised; None is the CPU.

    Raises:
        ModelError: Files missing or broken, a pickle, or weights missing, unexpected or of another
            shape.
    """
    refuse_pickles(source)
    given: dict[str, Any] = {
        "dtype": dtype,
        "output_loading_info": True,
        "trust_remote_code": False,
        "use_safetensors": True,
    }
    if quantized is not None:
        given |= quantized.loading(dtype, device or torch.device("cpu"))
    try:
        loaded: Any = AutoModelForImageTextToText.from_pretrained(source, **given)
        model, info = loaded
    except Exception as error:
        # Safetensors and torch raise their own types for a broken file; all mean the same here.
        raise ModelError(
            f"{source}: the weights cannot be loaded: {first_line(error)}\n"
            "Use a complete checkpoint with its *.safetensors; fetch it again if it is damaged."
        ) from error
    refuse_partial(source, info)
    if quantized is not None:
        settle(model, quantized)
    return model.eval()


def skeleton(
    checkpoint: Checkpoint | Architecture, *, dtype: torch.dtype | None = None
) -> PreTrainedModel:
    """The model's modules without a weight, on the meta device: seconds and no memory.

    Args:
        checkpoint: What the model is.
        dtype: Dtype that its weights would have; None for the checkpoint's own.
    """
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(checkpoint.config, dtype=dtype)


def refuse_partial(source: str, info: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of which some weights were not found, not used or did not fit.

    Raises:
        ModelError: Names the first keys of each kind and how many there are.
    """
    faults = []
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        keys = sorted(str(key) for key in info.get(kind, ()))
        if keys:
            shown = ", ".join(keys[:3]) + (" ..." if len(keys) > 3 else "")
            faults.append(f"{len(keys)} {kind.replace('_', ' ')}: {shown}")
    if faults:
        raise ModelError(
            f"{source}: the checkpoint does not fit its architecture; " + "; ".join(faults) + ".\n"
            "Weights that are not found would stay random. Use a complete checkpoint."
        )
