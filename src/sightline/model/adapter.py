"""Putting a saved adapter on the base that it was trained on, and on no other.

PEFT loads an adapter on whatever it is given. On its own merged model it adds the update a second
time, and of an adapter whose names do not fit it loads nothing: the first says nothing at all, the
second warns. Both are refused here.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from peft.utils import load_peft_weights
from torch import nn
from transformers import PreTrainedModel

from sightline.errors import ModelError, first_line
from sightline.model.fingerprint import fingerprint
from sightline.model.load import load_weights
from sightline.model.pickles import refuse_pickles
from sightline.model.quantized import named_weights
from sightline.records import read_json

PREPARATION_FILE = "sightline.json"
"""What Sightline writes beside an exported model or adapter."""

_ADVICE = "Use the base that the adapter was trained on, and the adapter's whole folder."
_WHOLE = "Name a folder that PEFT saved, whole; copy it again if it is damaged."
_STANDS_ON = re.compile(r"\.base_layer(?=\.)")
_WRAPPED = re.compile(r"\.(base_layer|original_module)(?=\.)")
_ADDED = re.compile(r"\.(lora_\w+|modules_to_save)\.")
# Before transformers 4.52 the decoder stood at `model.layers`, the vision tower at `visual`.
_OLDER_NAMES = re.compile(r"base_model\.model\.(visual\.|model\.layers\.)")


def base_record(model: nn.Module) -> dict[str, Any] | None:
    """What tells whether a model is the base of an adapter: a digest of the weights it stands on.

    Args:
        model: PEFT's model: the base with the adapter on it, not merged.

    Returns:
        None where the weights are quantised: other devices may round them otherwise.
    """
    weights = _stood_on(model)
    if not weights or not all(weight.is_floating_point() for weight in weights.values()):
        return None
    dtype = next(iter(weights.values())).dtype
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "num_tensors": len(weights),
        "fingerprint": _digest(weights, dtype),
    }


def base_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Every weight of the base by its plain name, whatever PEFT put around it.

    Scales of quantised weights are among them, as ``NAME.weight.absmax`` and the like. LoRA's
    factors are not, nor the copies that train in full instead of a module of the base.

    Args:
        model: A plain model, or PEFT's.
    """
    return {
        _WRAPPED.sub("", name).removeprefix("base_model.model."): tensor
        for name, tensor in named_weights(model)
        if not _ADDED.search(name)
    }


def adapter_tensors(model: PeftModel) -> dict[str, torch.Tensor]:
    """What an adapter's file holds, by the names it has there, from a model in memory."""
    # "auto" would ask the hub whether the embedding was resized.
    return get_peft_model_state_dict(model, save_embedding_layers=False)


def saved_tensors(adapter: Path) -> dict[str, torch.Tensor]:
    """What an adapter's file holds.

    Raises:
        ModelError: It is not there, a pickle, or broken.
    """
    refuse_pickles(adapter)
    try:
        return load_peft_weights(str(adapter), device="cpu")
    except Exception as error:
        # PEFT asks the hub for what is missing; Safetensors has errors of its own.
        raise ModelError(
            f"{adapter}: the adapter cannot be read: {first_line(error)}\n{_WHOLE}"
        ) from error


def _stood_on(model: nn.Module) -> dict[str, torch.Tensor]:
    """The base's own weights of every module that LoRA adds to, by name.

    Of modules that trained in full the adapter has its own weights, whatever the base has.
    """
    return {
        _STANDS_ON.sub("", name): parameter
        for name, parameter in model.named_parameters()
        if _STANDS_ON.search(name)
    }


def _digest(weights: dict[str, torch.Tensor], dtype: torch.dtype) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(weights):
        digest.update(f"{name} {fingerprint(weights[name].to(dtype))}\n".encode())
    return digest.hexdigest()


def open_adapter(base: str, adapter: Path, *, dtype: torch.dtype | None = None) -> PeftModel:
    """Load a base checkpoint with an adapter on it.

    Args:
        base: Folder or hub id of the model that the adapter was trained on.
        adapter: Folder of the adapter.
        dtype: Dtype of the base's weights; None is the one that the adapter was trained beside.

    Raises:
        ModelError: See `load_adapter`; or the base cannot be loaded whole.
    """
    told = (_recorded(adapter) or {}).get("dtype", "float32")
    model = load_weights(base, dtype=dtype or getattr(torch, str(told)))
    return load_adapter(model, adapter, base=base)


def load_adapter(model: PreTrainedModel, adapter: Path, *, base: str = "the base") -> PeftModel:
    """Put an adapter on a model, whole or not at all.

    Args:
        model: The base, with its head.
        adapter: Folder of the adapter.
        base: What the base is called in messages.

    Raises:
        ModelError: The adapter cannot be read, its names do not all fit the model, or the model is
            not the base that it was trained on.
    """
    if model.get_output_embeddings() is None:
        raise ModelError(
            f"{adapter}: {base} is loaded without its head, so the adapter's names do not fit it.\n"
            "Load it with AutoModelForImageTextToText."
        )
    refuse_pickles(adapter)
    try:
        given = set(load_peft_weights(str(adapter), device="cpu"))
        with warnings.catch_warnings():
            # Of names that are missing PEFT warns; they are refused below.
            warnings.simplefilter("ignore", UserWarning)
            adapted = PeftModel.from_pretrained(model, str(adapter))
    except KeyError as error:
        # So PEFT says that a module which trained in full is not there.
        raise ModelError(
            f"{adapter}: the adapter does not fit the model: {error.args[0]} is missing.\n{_ADVICE}"
        ) from error
    except Exception as error:
        # PEFT asks the hub for what is missing; Safetensors and torch have errors of their own.
        raise ModelError(
            f"{adapter}: the adapter cannot be loaded: {first_line(error)}\n{_WHOLE}"
        ) from error
    _refuse_other_names(adapter, given, _names(adapted))
    _refuse_other_base(adapted, adapter, base)
    return adapted.eval()


def _names(adapted: PeftModel) -> set[str]:
    """Names that its adapter's tensors have in a file."""
    return set(adapter_tensors(adapted))


def _refuse_other_names(adapter: Path, given: set[str], wanted: set[str]) -> None:
    faults = []
    for keys, what in ((given - wanted, "unknown to the model"), (wanted - given, "missing")):
        if keys:
            faults.append(f"{len(keys)} {what}, {min(keys)} for one")
    if not faults:
        return
    advice = _ADVICE
    if any(_OLDER_NAMES.match(key) for key in given):
        advice = (
            "These are names of before transformers 4.52. Merge the adapter with that release and "
            "use the merged model, or train it again."
        )
    raise ModelError(
        f"{adapter}: the adapter does not fit the model: of its {len(given)} tensors, "
        f"{'; '.join(faults)}. What does not fit would be left out.\n{advice}"
    )


def _refuse_other_base(adapted: PeftModel, adapter: Path, base: str) -> None:
    told = _recorded(adapter)
    if told is None:
        return
    weights = _stood_on(adapted)
    dtype = getattr(torch, str(told["dtype"]))
    if len(weights) == told["num_tensors"] and _digest(weights, dtype) == told["fingerprint"]:
        return
    merged = ""
    if (Path(base) / PREPARATION_FILE).is_file() and _recorded(Path(base)) is None:
        merged = f" {base} is a model that was exported: what the adapter adds is in it already."
    raise ModelError(
        f"{adapter}: {base} is not the base that this adapter was trained on: the weights that it "
        f"adds to have another fingerprint.{merged}\n"
        "Use the merged model without the adapter, or the adapter on its own base."
    )


def _recorded(folder: Path) -> dict[str, Any] | None:
    """What was recorded of the base; None where nothing was."""
    file = folder / PREPARATION_FILE
    if not file.is_file():
        return None
    record = read_json(file)
    found = record.get("base")
    return found if isinstance(found, dict) else None
