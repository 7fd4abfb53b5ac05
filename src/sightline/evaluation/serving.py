"""A model to be asked: of a run, an adapter's folder, a model's folder, or a hub id."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import PeftModel

from sightline.data import Collator, LeanPixels, PixelLoader, ProcessorPixels
from sightline.data.blanks import Blanks
from sightline.errors import ModelError, RunError
from sightline.evaluation.predicting import Answerer
from sightline.model import (
    Checkpoint,
    QuantizedWeights,
    choose_dtype,
    follow_engine,
    load_adapter,
    load_weights,
    open_checkpoint,
    refuse_unquantizable,
    take_raw_pixels,
)
from sightline.model.adapter import PREPARATION_FILE
from sightline.records import RunDirectory, read_json

_ADAPTER_FILE = "adapter_config.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """What is asked, before a weight is loaded.

    Attributes:
        weights: Folder or hub id of the model, or of the base of an adapter.
        adapter: Folder of the adapter; None where the weights are asked as they are.
        processor: Folder of the processor; None for the one beside the weights.
        quantized: Which weights are held in 4 or 8 bits; None is none of them.
    """

    weights: str
    adapter: Path | None = None
    processor: str | None = None
    quantized: QuantizedWeights | None = None

    @property
    def title(self) -> str:
        """As messages name it."""
        return self.weights if self.adapter is None else f"{self.adapter} on {self.weights}"

    def checkpoint(self) -> Checkpoint:
        """Its configuration and processor, with the pixel limits that it was saved with.

        Raises:
            ModelError: It is not there, or of no known family.
        """
        return open_checkpoint(self.weights, processor_source=self.processor)

    def stamp(self) -> str:
        """Changes when its files are written again; of a hub id, when it is another."""
        digest = hashlib.blake2b(f"{self.weights} {self.quantized}".encode(), digest_size=8)
        for folder in (Path(self.weights), self.adapter):
            files = sorted(folder.glob("*.safetensors")) if folder and folder.is_dir() else []
            for file in files:
                status = file.stat()
                told = f"{file.name} {status.st_size} {status.st_mtime_ns}"
                digest.update(told.encode("utf-8", "replace"))
        return digest.hexdigest()


def served(given: str, *, base: bool = False) -> Served:
    """What a name on the command line means.

    Args:
        given: A run directory, an adapter's folder, a model's folder or a hub id.
        base: Whether the base that was trained from is meant, prepared as the run's own model.

    Raises:
        RunError: A run that has exported nothing.
        ModelError: The base of what is no run and no adapter.
    """
    folder = Path(given)
    if (folder / "run.json").is_file():
        return _of_run(RunDirectory.open(folder), base=base)
    if (folder / _ADAPTER_FILE).is_file():
        return _of_adapter(folder, base=base)
    if base:
        raise ModelError(
            f"{given}: the base is asked for, and this is no run and no adapter: it has none.\n"
            "Name a run directory or an adapter's folder, or ask the base by its own name."
        )
    return Served(weights=given)


def _of_run(run: RunDirectory, *, base: bool) -> Served:
    exported = [folder for folder in (run.merged, run.adapter) if folder.is_dir()]
    if not exported or not run.probe.is_file():
        raise RunError(
            f"{run.path}: this run has no exported model (state: {run.read_state()['state']}).\n"
            f"Finish it with sightline resume {run.path}"
        )
    told = read_json(run.probe)
    if exported[0] == run.merged and not base:
        return Served(weights=str(run.merged))
    return Served(
        weights=str(told["base"]),
        adapter=None if base else run.adapter,
        processor=str(exported[0]),
        quantized=_quantized(told.get("quantized")),
    )


def _of_adapter(folder: Path, *, base: bool) -> Served:
    config = read_json(folder / _ADAPTER_FILE)
    name = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    if not name:
        raise ModelError(
            f"{folder / _ADAPTER_FILE}: base_model_name_or_path is not there, so the base of this "
            "adapter is not known.\nWrite the folder or hub id of the base into it."
        )
    told = folder / PREPARATION_FILE
    kept = read_json(told).get("quantized") if told.is_file() else None
    has_processor = any(folder.glob("*processor*config.json"))
    return Served(
        weights=str(name),
        adapter=None if base else folder,
        processor=str(folder) if has_processor else None,
        quantized=_quantized(kept),
    )


def _quantized(record: Any) -> QuantizedWeights | None:
    return QuantizedWeights.from_record(record) if record is not None else None


class Loaded(NamedTuple):
    """A model that places every call by the engine.

    Attributes:
        model: It, in evaluation mode, on its device.
        dtype: Dtype of its weights, or of those of its base.
    """

    model: Any
    dtype: torch.dtype

    def arithmetic(self) -> AbstractContextManager[Any]:
        """The context to call it in: an adapter's float32 factors and a bf16 base, joined as in
        training."""
        joins = isinstance(self.model, PeftModel) and self.dtype == torch.bfloat16
        return torch.autocast(self.model.device.type, self.dtype) if joins else nullcontext()


def load_served(
    served: Served, checkpoint: Checkpoint, *, precision: str, takes_raw: bool
) -> Loaded:
    """Load what is asked, on the GPU where there is one.

    Args:
        served: What is asked.
        checkpoint: Its configuration and processor.
        precision: auto, bf16 or fp32; see `choose_dtype`.
        takes_raw: Whether it is given grey levels; otherwise what its processor makes.

    Raises:
        ModelError: The weights cannot be loaded whole, or the adapter does not fit them.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = choose_dtype(precision, device)
    if served.quantized is not None:
        refuse_unquantizable(served.quantized.kind, device)
    model: Any = load_weights(
        served.weights, dtype=dtype, quantized=served.quantized, device=device
    )
    if takes_raw:
        assert checkpoint.recipes is not None
        take_raw_pixels(model, checkpoint.family, checkpoint.recipes)
    follow_engine(model, checkpoint.position_rule)
    if served.adapter is not None:
        model = load_adapter(model, served.adapter, base=served.weights)
    if served.quantized is None:
        model = model.to(device)
    return Loaded(model.eval(), dtype)


def load_answerer(
    served: Served, checkpoint: Checkpoint, *, precision: str, max_new_tokens: int
) -> Answerer:
    """Load what is asked, on the GPU where there is one.

    Args:
        served: What is asked.
        checkpoint: Its configuration and processor.
        precision: auto, bf16 or fp32; see `choose_dtype`.
        max_new_tokens: Bound on an answer.

    Raises:
        ModelError: The weights cannot be loaded whole, or the adapter does not fit them.
    """
    loaded = load_served(
        served, checkpoint, precision=precision, takes_raw=checkpoint.recipes is not None
    )
    pixels: PixelLoader = ProcessorPixels(checkpoint.processor)
    if checkpoint.recipes is not None:
        pixels = LeanPixels(checkpoint.preprocessing, checkpoint.recipes)
    return make_answerer(
        loaded.model,
        checkpoint,
        pixels,
        max_new_tokens=max_new_tokens,
        arithmetic=loaded.arithmetic,
    )


def make_answerer(
    model: Any,
    checkpoint: Checkpoint,
    pixels: PixelLoader,
    *,
    max_new_tokens: int,
    arithmetic: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Answerer:
    """A model that answers, with what makes batches for it.

    Args:
        model: It follows the engine, and takes the pixels as they are loaded.
        checkpoint: Its configuration and processor.
        pixels: Loads pixels.
        max_new_tokens: Bound on an answer.
        arithmetic: Makes the context in which it computes.
    """
    tokenizer = checkpoint.processor.tokenizer
    filler = tokenizer.convert_tokens_to_ids(checkpoint.family.tokens.end_of_text)
    rule, preprocessing = checkpoint.position_rule, checkpoint.preprocessing
    collator = Collator(
        pixels=pixels,
        rule=rule,
        pad_token_id=filler,
        padding_side="left",
        blanks=Blanks(rule, preprocessing, takes_raw=pixels.takes_raw, filler=filler),
    )
    return Answerer(
        model=model,
        collator=collator,
        tokenizer=tokenizer,
        tokens=checkpoint.family.tokens,
        max_new_tokens=max_new_tokens,
        arithmetic=arithmetic,
    )
