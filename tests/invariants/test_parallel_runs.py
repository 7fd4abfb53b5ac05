"""Whole runs on two processes: the same course as on one, whatever shares the work."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

SECONDS = 200
STEPS = 4
STAGES = [{"until": 2, "vision": "freeze"}, {}]


@pytest.fixture(scope="module")
def given(shapes_rows, tiny_folder, tmp_path_factory) -> dict[str, Any]:
    """A configuration of eight samples, text alone among them, without its output."""
    text = [{"from": "human", "value": "Red?"}, {"from": "gpt", "value": "Yes."}]
    rows = [*shapes_rows, {"conversations": text}]
    path = tmp_path_factory.mktemp("parallel-runs") / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = {"path": str(path), "allow_outside": True}
    return {
        "model": str(tiny_folder("qwen3_vl")),
        "data": {"train": data, "eval": data},
        "tuning": {"language": "lora", "projector": "full", "vision": "full"},
        "training": {
            "max_steps": STEPS,
            "learning_rate": 1e-3,
            "batch_size": 2,
            "gradient_accumulation": 4,
            "save_every": 2,
        },
        "verify": {"enabled": False},
    }


def _train(
    given: dict[str, Any], output: Path, *options: str, staged: bool = True, **training: Any
) -> Path:
    config = json.loads(json.dumps(given | {"output": str(output)}))
    config["training"] |= training
    if staged:
        config["tuning"]["stages"] = STAGES
    path = output.with_suffix(".yaml")
    path.write_text(json.dumps(config), encoding="utf-8")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", "sightline", "train", str(path), *options],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 0, f"{done.stdout[-1000:]}\n{done.stderr[-3000:]}"
    return output


def _course(run: Path) -> list[tuple[int, float]]:
    """Step and loss of every line, of training and evaluation."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [(line["step"], line.get("loss", line.get("eval_loss"))) for line in lines]


def _same_course(first: Path, second: Path) -> bool:
    ours, theirs = _course(first), _course(second)
    return [step for step, _ in ours] == [step for step, _ in theirs] and [
        loss for _, loss in ours
    ] == pytest.approx([loss for _, loss in theirs], rel=1e-5)


def _gap(first: Path, second: Path) -> float:
    """Norm of the difference of two exported models over that of the second."""
    ours, theirs = (load_file(run / "merged" / "model.safetensors") for run in (first, second))
    assert ours.keys() == theirs.keys()
    gap = sum(float((ours[name] - theirs[name]).norm()) ** 2 for name in ours) ** 0.5
    return gap / sum(float(one.norm()) ** 2 for one in theirs.values()) ** 0.5


@pytest.fixture(scope="module")
def alone(given, tmp_path_factory) -> Path:
    return _train(given, tmp_path_factory.mktemp("alone") / "run")


@pytest.fixture(scope="module")
def shared(given, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("shared") / "run"
    return _train(given, output, "--processes", "2", parallel="fsdp", gradient_accumulation=2)


def test_a_run_that_shares_weights_is_that_of_one_process(alone, shared) -> None:
    assert _same_course(shared, alone)
    assert _gap(shared, alone) < 1e-5
    assert json.loads((shared / "proof.json").read_text())["without_gradient"] == []


def test_a_run_that_shares_gradients_is_that_of_one_process(given, alone, tmp_path) -> None:
    """The proof before it goes back through what the first stage freezes: DDP must not see it."""
    output = tmp_path / "run"
    _train(given, output, "--processes", "2", parallel="ddp", gradient_accumulation=2)
    assert _same_course(output, alone)
    assert _gap(output, alone) < 1e-5


def test_a_run_of_one_goes_on_with_two(given, alone, tmp_path) -> None:
    output = tmp_path / "run"
    shutil.copytree(alone, output)
    for name in (f"checkpoints/checkpoint-{STEPS}", "merged", "adapter"):
        shutil.rmtree(output / name)
    _train(given, output, "--resume", "--processes", "2", parallel="fsdp")
    assert _same_course(output, alone)
    assert _gap(output, alone) < 1e-5
    batches = json.loads((output / "run.json").read_text())["batches"]
    assert (batches["num_processes"], batches["samples"]["most"]) == (2, 8)


@pytest.fixture(scope="module")
def unstaged(given, tmp_path_factory) -> Path:
    return _train(given, tmp_path_factory.mktemp("unstaged") / "run", staged=False)


@pytest.mark.extra
@pytest.mark.skipif(find_spec("deepspeed") is None, reason="needs sightline[deepspeed]")
@pytest.mark.parametrize("parallel", ["zero1", "zero2", "zero3"])
def test_deepspeed_trains_as_one_process(parallel: str, given, unstaged, tmp_path) -> None:
    output = tmp_path / "run"
    how: dict[str, Any] = {"parallel": parallel, "gradient_accumulation": 2}
    _train(given, output, "--processes", "2", staged=False, **how)
    assert _same_course(output, unstaged)
    assert _gap(output, unstaged) < 1e-5
    assert json.loads((output / "proof.json").read_text())["without_gradient"] == []
    for name in (f"checkpoints/checkpoint-{STEPS}", "merged", "adapter"):
        shutil.rmtree(output / name)
    _train(given, output, "--resume", "--processes", "2", staged=False, **how)
    assert _same_course(output, unstaged)


@pytest.mark.extra
@pytest.mark.skipif(find_spec("ray") is None, reason="needs sightline[ray]")
def test_ray_trains_as_one_process(given, alone, tmp_path) -> None:
    output = tmp_path / "run"
    options = ("--ray", "local", "--processes", "2")
    _train(given, output, *options, parallel="fsdp", gradient_accumulation=2)
    assert _same_course(output, alone)
    assert _gap(output, alone) < 1e-5


def test_weights_that_are_compared_have_moved(alone, given) -> None:
    """What would otherwise be equal by standing still."""
    trained = load_file(alone / "merged" / "model.safetensors")
    base = load_file(Path(given["model"]) / "model.safetensors")
    moved = [
        name for name in trained if name in base and not torch.equal(trained[name], base[name])
    ]
    assert any("visual" in name for name in moved)
    assert any("language_model" in name for name in moved)
