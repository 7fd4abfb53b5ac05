"""A run that goes wrong says so in the terminal, in its files and in its report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml


def _configuration(folder: Path, shapes: Path, **training: Any) -> Path:
    settings: dict[str, Any] = {
        "model": "tiny:qwen2_5_vl",
        "data": {"train": str(shapes / "train.jsonl")},
        "training": {"gradient_accumulation": 1, "gradient_checkpointing": False} | training,
        "verify": {"enabled": False},
        "output": str(folder / "run"),
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_loss_that_does_not_fall_is_told_everywhere(
    command: Any, tmp_path: Path, shapes_folder: Path
) -> None:
    config = _configuration(
        tmp_path,
        shapes_folder,
        max_steps=100,
        learning_rate=1e-6,
        scheduler="constant",
        batch_size=2,
    )
    outcome = command("train", config)
    assert outcome.code == 0, outcome.err
    [alarm] = _lines(tmp_path / "run" / "alarms.jsonl")
    assert alarm["id"] == "loss.not_falling"
    assert "vision never trains" in alarm["cause"]
    words = " ".join(outcome.out.split())
    assert f"alarm step {alarm['step']}: {alarm['seen']}" in words
    assert f"remedy {alarm['remedy']}" in words
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "1 alarm while it trained" in page
    assert alarm["seen"] in page


def test_a_sound_run_is_not_disturbed(command: Any, tmp_path: Path, shapes_folder: Path) -> None:
    config = _configuration(tmp_path, shapes_folder, max_steps=60, learning_rate=2e-3)
    assert command("train", config).code == 0
    assert not (tmp_path / "run" / "alarms.jsonl").exists()
    lines = _lines(tmp_path / "run" / "metrics.jsonl")
    for key in ("grad_norm_by_tower", "learning_rate_by_tower"):
        assert all(set(line[key]) == {"projector", "language"} for line in lines)
    last = lines[-1]["weight_change_by_tower"]
    assert last["language"] > 1e-3
    assert lines[0]["weight_change_by_tower"]["language"] == 0.0


def test_a_loss_that_is_nan_ends_the_run_with_its_place(
    command: Any, tmp_path: Path, shapes_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sightline.training import trainer

    real, calls = trainer.model_loss, []

    def broken(model: Any, inputs: Any, num_tokens: Any) -> Any:
        loss, own = real(model, inputs, num_tokens)
        calls.append(own)
        return (loss * torch.nan if len(calls) > 5 else loss), own

    monkeypatch.setattr(trainer, "model_loss", broken)
    config = _configuration(tmp_path, shapes_folder, max_steps=20, gradient_accumulation=2)
    outcome = command("train", config)
    assert outcome.code == 2
    assert "the loss is nan at step 3, micro-batch 2. Every module's output is finite" in (
        outcome.err
    )
    run = tmp_path / "run"
    assert [line["step"] for line in _lines(run / "metrics.jsonl")] == [1, 2]
    assert [alarm["id"] for alarm in _lines(run / "alarms.jsonl")] == ["values.non_finite"]
    assert "alarm step 3:" in " ".join(outcome.out.split())


def test_a_step_without_supervised_tokens_is_told_and_the_run_goes_on(
    command: Any, tmp_path: Path, shapes_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sightline.training import trainer
    from sightline.training.loss import supervised_tokens

    real = trainer.SightlineTrainer.get_batch_samples

    def masked(self: Any, *arguments: Any) -> Any:
        steps, count = real(self, *arguments)
        if self.state.global_step == 3:
            for step in steps:
                step._batches = map(without_supervision, step._batches)
            count = 0
        return steps, count

    def without_supervision(batch: dict[str, Any]) -> dict[str, Any]:
        batch["labels"].fill_(-100)
        supervised, targets = supervised_tokens(batch["labels"])
        return batch | {"supervised": supervised, "targets": targets}

    monkeypatch.setattr(trainer.SightlineTrainer, "get_batch_samples", masked)
    config = _configuration(tmp_path, shapes_folder, max_steps=6, learning_rate=1e-3)
    outcome = command("train", config)
    assert outcome.code == 0, outcome.err
    [alarm] = _lines(tmp_path / "run" / "alarms.jsonl")
    assert (alarm["id"], alarm["step"]) == ("loss.nothing_supervised", 4)
    losses = [line["loss"] for line in _lines(tmp_path / "run" / "metrics.jsonl")]
    assert [loss == 0 for loss in losses] == [False, False, False, True, False, False]


def test_resuming_forgets_the_alarms_of_steps_that_come_again(tmp_path: Path) -> None:
    from sightline.records import RunDirectory, append_jsonl

    run = RunDirectory.create(tmp_path / "run")
    for step in (10, 20):
        append_jsonl(run.alarms, {"step": step, "id": "gradient.zero"})
        append_jsonl(run.metrics, {"step": step, "loss": 1.0})
    run.forget_steps_after(10)
    assert [alarm["step"] for alarm in run.read_alarms()] == [10]
    assert [line["step"] for line in run.read_metrics()] == [10]


def test_the_mark_of_a_tiny_model_outlives_export_and_reload(
    command: Any, tmp_path: Path, shapes_folder: Path
) -> None:
    from transformers import AutoConfig

    from sightline.model import is_tiny

    config = _configuration(
        tmp_path, shapes_folder, max_steps=1, learning_rate=1e-3, warmup_ratio=0.0
    )
    assert command("train", config).code == 0
    merged = tmp_path / "run" / "merged"
    assert is_tiny(AutoConfig.from_pretrained(merged))
    content = json.loads((merged / "config.json").read_text(encoding="utf-8"))
    del content["sightline_tiny"]
    (merged / "config.json").write_text(json.dumps(content), encoding="utf-8")
    assert not is_tiny(AutoConfig.from_pretrained(merged))
    # Without it, the same random weights are told to begin at the loss of guessing.
    again = _configuration(
        tmp_path, shapes_folder, max_steps=1, learning_rate=1e-3, warmup_ratio=0.0
    )
    outcome = command(
        "train", again, "--set", f"model={merged}", "--set", f"output={tmp_path / 'again'}"
    )
    assert outcome.code == 0, outcome.err
    assert "loss.abnormal_start" in (tmp_path / "again" / "alarms.jsonl").read_text()
