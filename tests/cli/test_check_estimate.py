"""``sightline check --device``: what a run takes there, and what fits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def run_yaml(tmp_path: Path, shapes_folder: Path) -> Callable[..., Path]:
    def write(family: str = "qwen2_5_vl", more: str = "") -> Path:
        path = tmp_path / "run.yaml"
        path.write_text(
            f"model: tiny:{family}\n"
            f"data: {{train: {shapes_folder}/train.jsonl}}\n"
            f"output: {tmp_path}/runs/first\n{more}"
        )
        return path

    return write


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_a_run_is_estimated_for_a_named_device(
    command: Callable, run_yaml: Callable, tmp_path: Path, family: str
) -> None:
    more = "training: {batch_size: 2, gradient_accumulation: 3}\n"
    done = command("check", run_yaml(family, more), "--device", "h100")
    assert done.code == 0, done.err
    *report, _ = done.out.splitlines()
    assert max(map(len, report)) <= 80
    assert "Estimate for NVIDIA H100 SXM, bf16" in done.out
    record = json.loads((tmp_path / "runs/first.check/check.json").read_text("utf-8"))
    found = record["estimate"]
    assert found["peak_bytes"] == sum(found["parts"].values())
    assert list(found["parts"]) == [
        "weights",
        "optimizer",
        "gradients",
        "activations",
        "logits",
        "transient",
    ]
    proposal = found["proposal"]
    assert proposal["fits"]
    assert proposal["batch_size"] * proposal["accumulation"] == 6
    assert (proposal["batch_size"], proposal["checkpointing"]) == (6, False)
    assert found["step"]["seconds"] > 0
    # Videos and several pictures are among them.
    assert found["batch"]["vision_tokens"] > 0


def test_a_run_in_tokens_is_told_of_its_rows(
    command: Callable, run_yaml: Callable, tmp_path: Path
) -> None:
    more = "training: {tokens_per_step: 2000, tokens_per_row: 600}\n"
    done = command("check", run_yaml(more=more), "--device", "H100")
    assert done.code == 0, done.err
    record = json.loads((tmp_path / "runs/first.check/check.json").read_text("utf-8"))
    found = record["estimate"]
    assert found["packed"]
    assert found["batch"]["samples"] > 1
    assert f"samples packed: {found['batch']['tokens']:,} tokens" in done.out
    assert found["step"]["tokens_a_second"] > 0
    assert "tokens a second" in done.out
    assert "training.tokens_per_row: 1024" in done.out
    assert "training.batch_size" not in done.out


def test_padding_is_told(command: Callable, run_yaml: Callable) -> None:
    more = "training: {batch_size: 4, gradient_accumulation: 1, packing: 'off'}\n"
    done = command("check", run_yaml(more=more), "--device", "H100")
    assert done.code == 0, done.err
    assert "samples padded" in done.out
    assert "% padding" in done.out


def test_a_device_without_bf16_is_a_warning(command: Callable, run_yaml: Callable) -> None:
    done = command("check", run_yaml(), "--device", "T4", "--json", "--strict")
    assert done.code == 1
    record = json.loads(done.out)
    [warning] = record["warnings"]
    assert "fp16 is no way out" in warning
    assert record["estimate"]["precision"] == "fp32"


def test_an_unknown_device_is_refused_before_the_data_are_read(
    command: Callable, run_yaml: Callable, tmp_path: Path
) -> None:
    done = command("check", run_yaml(), "--device", "B300")
    assert done.code == 2
    assert "B300" in done.err
    assert "RTX-4090" in done.err
    assert not (tmp_path / "runs/first.check").exists()


def test_a_plan_that_cannot_be_is_an_error(command: Callable, run_yaml: Callable) -> None:
    more = "tuning: {lora: {target_modules: [no_such_layer]}}\n"
    done = command("check", run_yaml(more=more), "--device", "cpu", "--json")
    assert done.code == 2
    record = json.loads(done.out)
    assert record["estimate"] is None
    assert "no_such_layer" in record["errors"][0]
