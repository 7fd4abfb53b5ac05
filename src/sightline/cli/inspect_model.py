"""``sightline inspect model``: a model as a tree, with what a plan does to every part of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sightline.cli.console import make_console, quiet_libraries, user_errors
from sightline.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from sightline.config import RunConfig


def model_command(model: str, *, plan: Path | None, overrides: list[str], as_json: bool) -> int:
    """Draw a model; 0, or 2 where it cannot be read or the plan cannot be laid on it."""
    from sightline.config import load_config

    with user_errors():
        if overrides and plan is None:
            raise ConfigError("--set changes a configuration: name it with --plan run.yaml.")
        config = load_config(plan, overrides) if plan is not None else None
        quiet_libraries()
        record = _record(model, plan, config)
        if as_json:
            json.dump(record, sys.stdout, ensure_ascii=False, indent=1)
            print()
            return 0
        from sightline.report.model_map import map_report

        make_console().print(map_report(record))
    return 0


def _record(model: str, path: Path | None, config: RunConfig | None) -> dict[str, Any]:
    from sightline.model import open_architecture, resolve_model, skeleton
    from sightline.tuning import resolve_plan
    from sightline.tuning.map import map_model, map_record

    with TemporaryDirectory() as folder:  # for a tiny model, which is made on the spot
        source = resolve_model(_spec(model, config), Path(folder) / "tiny")
        architecture = open_architecture(source)
    dtype = _dtype(config, architecture.config)
    built = skeleton(architecture, dtype=dtype)
    plan = None
    if config is not None:
        plan = resolve_plan(built, architecture.family, config.tuning, config.training)
    nodes = map_model(built, architecture.family, plan)
    record = map_record(nodes, plan, model=model, family=architecture.family, dtype=dtype)
    record["notes"] = _notes(model, path, config)
    if config is not None:
        record["plan"] |= {"path": str(path), "num_steps": config.training.max_steps}
    return record


def _spec(model: str, config: RunConfig | None) -> str:
    """What MODEL means: the folder in which a plan's tiny model is kept may still be missing."""
    if config is not None and not Path(model).exists() and _is_its_tiny_folder(model, config):
        return config.model
    return model


def _is_its_tiny_folder(model: str, config: RunConfig) -> bool:
    from sightline.model import tiny_folder

    is_tiny = config.model.startswith("tiny:")
    return (
        is_tiny
        and Path(model).resolve() == tiny_folder(config.model, Path(config.output)).resolve()
    )


def _dtype(config: RunConfig | None, architecture: Any) -> torch.dtype:
    """Dtype of the weights: as the plan's training would load them, else the checkpoint's own."""
    import torch

    from sightline.model import choose_dtype

    if config is not None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return choose_dtype(config.training.precision, device)
    return architecture.dtype or torch.float32


def _notes(model: str, path: Path | None, config: RunConfig | None) -> list[str]:
    """What a reader has to know to trust the numbers."""
    if config is None:
        return []
    notes = []
    same = model == config.model or _is_its_tiny_folder(model, config)
    if not same and Path(model).resolve() != Path(config.model).resolve():
        notes.append(f"{path} names the model {config.model}; its plan is laid on {model}")
    if config.training.precision == "auto":
        notes.append("training.precision is auto: bf16 where a GPU computes it, which counts here")
    if config.tuning.quantization != "none":
        notes.append(f"memory is counted before tuning.quantization: {config.tuning.quantization}")
    return notes
