"""A model to talk to: a run directory, a folder, or a hub id."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from sightline.errors import ModelError
from sightline.evaluation.probe import load_probe
from sightline.model import (
    Checkpoint,
    choose_dtype,
    follow_engine,
    load_adapter,
    load_weights,
    open_checkpoint,
    refuse_unquantizable,
)
from sightline.records import RunDirectory


class OpenModel(NamedTuple):
    """A loaded model that places every call by the engine.

    Attributes:
        model: It, in evaluation mode, on its device.
        checkpoint: Its configuration and processor.
        source: What was loaded, for people.
        dtype: Dtype of its weights.
    """

    model: Any
    checkpoint: Checkpoint
    source: str
    dtype: torch.dtype


def open_model(source: str) -> OpenModel:
    """Load what a run exported, or any checkpoint of a family that is trained here.

    Of a run that is its merged model, and where it has none the adapter on its base.

    Args:
        source: A run directory, a folder with ``config.json``, or a hub id.

    Raises:
        ModelError: Not there, not known, or not whole.
        VerifyError: The records of the run are broken.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = RunDirectory(Path(source))
    if not run.state_file.is_file():
        return _opened(source, device)
    if run.merged.is_dir():
        return _opened(str(run.merged), device)
    if not run.adapter.is_dir():
        raise ModelError(
            f"{run.path}: this run has exported no model yet (state: "
            f"{run.read_state()['state']}).\nFinish it with sightline resume {run.path}"
        )
    return _adapted(run, device)


def _opened(source: str, device: torch.device) -> OpenModel:
    checkpoint = open_checkpoint(source)
    dtype = choose_dtype("auto", device)
    model: Any = load_weights(source, dtype=dtype)
    placed = follow_engine(model.to(device), checkpoint.position_rule)
    return OpenModel(placed, checkpoint, source, dtype)


def _adapted(run: RunDirectory, device: torch.device) -> OpenModel:
    """The adapter of a run that merged nothing, on its base as it trained."""
    probe = load_probe(run)
    checkpoint = open_checkpoint(probe.base, processor_source=str(run.adapter))
    dtype = getattr(torch, probe.dtype)
    if probe.quantized is not None:
        refuse_unquantizable(probe.quantized.kind, device)
    base: Any = load_weights(probe.base, dtype=dtype, quantized=probe.quantized, device=device)
    if probe.quantized is None:
        base = base.to(device)
    follow_engine(base, checkpoint.position_rule)
    adapted = load_adapter(base, run.adapter, base=probe.base).eval()
    return OpenModel(adapted, checkpoint, f"{run.adapter} on {probe.base}", dtype)
