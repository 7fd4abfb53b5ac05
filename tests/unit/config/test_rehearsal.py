"""What a rehearsal changes of a run, and that it changes nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sightline.config import RunConfig, dump_config, load_config, rehearsal_config


def _config(**changes: Any) -> RunConfig:
    values: dict[str, Any] = {
        "model": "tiny:qwen2_vl",
        "data": {"train": "a.jsonl", "eval": "b.jsonl", "max_length": 900},
        "tuning": {"language": "full", "vision": "lora"},
        "training": {
            "learning_rate": 3e-5,
            "batch_size": 3,
            "packing": "off",
            "precision": "bf16",
            "eval_every": 7,
            "best_by": "eval_loss",
            "report_to": ["wandb"],
            "parallel": "zero3",
        },
        "export": {"merged": False},
        "output": "runs/x",
    }
    return RunConfig.model_validate(values | changes)


def _differing(one: dict[str, Any], other: dict[str, Any], path: str = "") -> set[str]:
    found: set[str] = set()
    for key, value in one.items():
        if isinstance(value, dict) and isinstance(other[key], dict):
            found |= _differing(value, other[key], f"{path}{key}.")
        elif value != other[key]:
            found.add(path + key)
    return found


def _rehearsed(config: RunConfig) -> RunConfig:
    return rehearsal_config(config, num_samples=5, max_steps=80, output="runs/x-rehearsal")


def test_only_what_keeps_a_few_samples_from_being_learned_is_changed() -> None:
    config = _config()
    rehearsed = _rehearsed(config)
    assert _differing(config.model_dump(), rehearsed.model_dump()) == {
        "data.eval",
        "output",
        *(
            f"training.{key}"
            for key in ("max_steps", "scheduler", "warmup_ratio", "save_every", "eval_every")
        ),
        *(f"training.{key}" for key in ("best_by", "report_to", "parallel")),
        "verify.samples",
        "verify.answers",
    }
    assert rehearsed.training.max_steps == 80
    assert (rehearsed.verify.samples, rehearsed.verify.answers) == (5, "memorised")
    assert config == _config()


def test_it_is_a_configuration_that_loads_again(tmp_path: Path) -> None:
    """A stage that ends at a plateau is refused without held-out data, so they stay."""
    stages = [
        {"until": "plateau", "language": "freeze", "projector": "full"},
        {"language": "lora"},
    ]
    for config in (_config(), _config(tuning={"stages": stages})):
        rehearsed = _rehearsed(config)
        path = tmp_path / "run.yaml"
        path.write_text(dump_config(rehearsed), encoding="utf-8")
        again = load_config(path)
        assert again.training == rehearsed.training
        assert bool(again.data.eval) == bool(config.tuning.stages)
