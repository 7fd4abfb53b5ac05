"""However pixels are prepared, the run is the same: lean, by the processor, cached, by workers."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from sightline.config import RunConfig
from sightline.errors import RunError
from sightline.model import save_merged
from sightline.training import SilentObserver, train
from sightline.training.checkpoints.manifest import write_manifest

NUM_STEPS = 6


class _StopAfter(TrainerCallback):
    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self._step:
            raise KeyboardInterrupt


class Stopping(SilentObserver):
    """Stops the run after a step."""

    def __init__(self, *, after: int) -> None:
        self._after = after

    def trainer_callbacks(self) -> list[Any]:
        return [_StopAfter(self._after)]


Configure = Callable[..., RunConfig]


@pytest.fixture
def configure(
    tmp_path: Path,
    tiny_folder: Callable[[str], Path],
    shapes_folder: Path,
) -> Configure:
    """A run over pictures and videos in which everything trains, the patch embedding too."""

    def configured(
        name: str, *, family: str = "qwen2_5_vl", num_workers: int = 0, **data: Any
    ) -> RunConfig:
        return RunConfig.model_validate(
            {
                "model": str(tiny_folder(family)),
                "data": {
                    "train": [str(shapes_folder / "train.jsonl")],
                    # Smaller than the shapes: the filter takes part.
                    "images": {"min_pixels": 3136, "max_pixels": 12_544},
                    **data,
                },
                "tuning": {"vision": "full", "projector": "full", "language": "full"},
                "training": {
                    "max_steps": NUM_STEPS,
                    "batch_size": 2,
                    "gradient_accumulation": 2,
                    "learning_rate": 1e-3,
                    "precision": "fp32",
                    "log_every": 1,
                    "save_every": 2,
                    "num_workers": num_workers,
                    "gradient_checkpointing": False,
                },
                "output": str(tmp_path / name),
            }
        )

    return configured


def _trained(config: RunConfig) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses of every step, and the exported weights."""
    run = train(config, SilentObserver()).run
    return _outcome(run.path)


def _outcome(run: Path) -> tuple[list[float], dict[str, torch.Tensor]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == NUM_STEPS
    return losses, load_file(str(run / "merged" / "model.safetensors"))


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_lean_and_processor_train_the_same(family: str, configure: Configure) -> None:
    own_losses, own = _trained(configure("lean", family=family))
    by_processor = configure("processor", family=family, preparation="processor")
    losses, weights = _trained(by_processor)
    assert own_losses == pytest.approx(losses, rel=1e-4)
    moved = 0.0
    for name, weight in weights.items():
        # Adam takes the sign of a gradient: rounding of one step may turn a weight that hardly
        # has one. The bound is a tenth of what the steps could move a weight.
        difference = (own[name] - weight).abs()
        assert difference.mean() < 1e-3 * NUM_STEPS / 100, name
        moved = max(moved, float(difference.max()))
    assert moved > 0


def test_what_is_exported_is_the_plain_model(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported: list[Any] = []

    def looked_at(model: Any, *others: Any) -> None:
        exported.append({type(module).__name__ for module in model.modules()})
        save_merged(model, *others)

    monkeypatch.setattr("sightline.training.exporting.save_merged", looked_at)
    train(configure("run"), SilentObserver())
    [names] = exported
    assert any(name.endswith("PatchEmbed") for name in names)
    assert not any(name.startswith("Raw") for name in names)


def test_workers_and_the_cache_change_nothing(configure: Configure, tmp_path: Path) -> None:
    losses, weights = _trained(configure("alone"))
    cache = tmp_path / "patches"
    before: dict[Path, int] = {}
    for name, num_workers in (("filled", 1), ("kept", 2)):
        given, exported = _trained(configure(name, num_workers=num_workers, patch_cache=str(cache)))
        assert given == losses, name
        assert all(torch.equal(exported[key], weights[key]) for key in weights), name
        filled = {path: path.stat().st_mtime_ns for path in cache.rglob("*.u8")}
        # The second run finds what the first one kept, and writes nothing.
        assert before in ({}, filled)
        before = filled
    assert before


def test_a_run_that_was_stopped_goes_on_with_the_same_batches(
    configure: Configure,
) -> None:
    losses, weights = _trained(configure("whole"))
    config = configure("stopped", num_workers=2)
    with pytest.raises(KeyboardInterrupt):
        train(config, Stopping(after=3))
    assert multiprocessing.active_children() == []
    run = train(config, SilentObserver(), resume=True).run
    assert multiprocessing.active_children() == []
    given, exported = _outcome(run.path)
    assert given == losses
    assert all(torch.equal(exported[key], weights[key]) for key in weights)


@pytest.mark.parametrize("fault", ["missing", "unknown"])
def test_a_checkpoint_of_other_weights_is_not_gone_on_from(
    fault: str, configure: Configure
) -> None:
    """The Trainer by itself warns, and goes on from the base weights."""
    config = configure("stopped")
    with pytest.raises(KeyboardInterrupt):
        train(config, Stopping(after=3))
    [path] = Path(config.output).glob("checkpoints/checkpoint-2/weights.safetensors")
    tensors = load_file(str(path))
    name = next(name for name in tensors if name.endswith("norm.weight"))
    tensors[f"old.{name}" if fault == "unknown" else name] = tensors[name].clone()
    if fault == "missing":
        del tensors[name]
    save_file(tensors, str(path), metadata={"format": "pt"})
    # Whole, and of another model.
    (path.parent / "manifest.json").unlink()
    write_manifest(path.parent)
    with pytest.raises(RunError) as caught:
        train(config, SilentObserver(), resume=True)
    missing, unknown = (1, 0) if fault == "missing" else (0, 1)
    said = f"{missing} are missing and {unknown} are unknown, "
    assert said + (name if fault == "missing" else f"old.{name}") in str(caught.value)
