"""Progressive unfreezing: what each stage moves, what the optimizer keeps, and going on again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sightline.config import RunConfig
from sightline.training import SilentObserver, train
from sightline.tuning import PlannedStage

STAGES = [
    {"name": "align", "until": "30%", "language": "freeze", "vision": "freeze"},
    {
        "name": "upper",
        "until": 7,
        "vision": "freeze",
        "language": {"parts": [{"blocks": "first 2", "mode": "freeze"}]},
    },
    {"name": "all", "learning_rate_factor": 0.3},
]
NUM_STEPS = 10


class Silent(SilentObserver):
    """Remembers the stages."""

    def __init__(self) -> None:
        self.began: list[tuple[int, str, int]] = []

    def stage_began(self, number: int, stage: PlannedStage, step: int) -> None:
        self.began.append((number, stage.name, step))


def _config(tiny: Path, shapes: Path, output: Path, **changes: Any) -> RunConfig:
    tuning = {
        "language": "lora",
        "projector": "full",
        "vision": {"mode": "full", "learning_rate": 1e-4},
        "stages": STAGES,
    }
    training = {
        "max_steps": NUM_STEPS,
        "learning_rate": 1e-3,
        "batch_size": 2,
        "gradient_accumulation": 1,
        "warmup_ratio": 0.2,
        "save_every": 1,
        "save_total_limit": NUM_STEPS,
    }
    return RunConfig.model_validate(
        {
            "model": str(tiny),
            "data": {"train": str(shapes / "train.jsonl"), "index_folder": str(output / "../index")}
            | changes.pop("data", {}),
            "tuning": tuning | changes.pop("tuning", {}),
            "training": training | changes.pop("training", {}),
            "verify": {"samples": 1, "max_new_tokens": 12},
            "output": str(output),
        }
        | changes
    )


@pytest.fixture(scope="module")
def staged(tiny_folder, shapes_folder, tmp_path_factory) -> tuple[RunConfig, Path, Silent]:
    """A run of three stages with a checkpoint after every step."""
    output = tmp_path_factory.mktemp("staged") / "run"
    config = _config(tiny_folder("qwen3_vl"), shapes_folder, output)
    observer = Silent()
    train(config, observer)
    return config, output, observer


def _weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / f"checkpoint-{step}" / "weights.safetensors")


def _tower(name: str) -> str:
    if "merger" in name:
        return "projector"
    return "vision" if ".visual." in name else "language"


def _moved(run: Path, first: int, last: int) -> dict[str, set[str]]:
    """Names that moved between two checkpoints, by tower."""
    before, after = _weights(run, first), _weights(run, last)
    found: dict[str, set[str]] = {}
    for name in before:
        if not torch.equal(before[name], after[name]):
            found.setdefault(_tower(name), set()).add(name)
    return found


def test_each_stage_moves_what_it_names_and_nothing_else(staged) -> None:
    _, run, observer = staged
    assert observer.began == [(2, "upper", 3), (3, "all", 7)]
    assert set(_moved(run, 1, 3)) == {"projector"}
    second = _moved(run, 3, 7)
    assert set(second) == {"projector", "language"}
    assert all(".layers.2." in name for name in second["language"])
    third = _moved(run, 7, 10)
    assert set(third) == {"projector", "language", "vision"}
    assert {name.split(".layers.")[1][0] for name in third["language"]} == {"0", "1", "2"}


def _optimizer(run: Path, step: int) -> list[tuple[str, float | None, float]]:
    """Tower, own steps (None without state) and rate of every tensor of the optimizer."""
    folder = run / "checkpoints" / f"checkpoint-{step}"
    tensors = load_file(folder / "optimizer.safetensors")
    steps = {name: float(tensors[name]) for name in tensors if name.endswith("::step")}
    groups = json.loads((folder / "optimizer.json").read_text(encoding="utf-8"))["groups"]
    return [
        (group["numbers"]["tower"], steps.get(f"{name}::step"), group["numbers"]["lr"])
        for group in groups
        for name in group["parameters"]
    ]


def test_the_optimizer_keeps_what_goes_on_and_starts_what_joins(staged) -> None:
    _, run, _ = staged
    steps = {tower: {} for tower in ("projector", "language", "vision")}
    for step in (3, 7, 10):
        for tower, own, _ in _optimizer(run, step):
            steps[tower].setdefault(step, set()).add(own)
    assert steps["projector"] == {3: {3.0}, 7: {7.0}, 10: {10.0}}
    # The upper layer joined after step 3, the lower ones after step 7.
    assert steps["language"] == {3: {None}, 7: {4.0, None}, 10: {7.0, 3.0}}
    assert steps["vision"] == {3: {None}, 7: {None}, 10: {3.0}}


def test_rates_follow_the_stages(staged) -> None:
    _, run, _ = staged
    rates = {
        step: {
            tower: max(r for t, _, r in _optimizer(run, step) if t == tower)
            for tower in ("projector", "language", "vision")
        }
        for step in (2, 3, 4, 7, 8)
    }
    assert rates[2]["language"] == rates[2]["vision"] == 0.0
    assert rates[4]["projector"] == pytest.approx(rates[4]["language"])
    assert rates[4]["vision"] == 0.0
    assert rates[8]["vision"] == pytest.approx(rates[8]["projector"] / 10)
    plan = json.loads((run / "plan.json").read_text(encoding="utf-8"))
    drawn = {tower: dict(points) for tower, points in plan["schedule"]["towers"].items()}
    for step, towers in rates.items():
        for tower, rate in towers.items():
            assert drawn[tower][step] == pytest.approx(rate), (step, tower)


@pytest.mark.parametrize("stop", [2, 3, 5, 7, 9])
def test_a_run_that_goes_on_in_any_stage_is_the_same_run(staged, tmp_path, stop: int) -> None:
    config, run, _ = staged
    again = tmp_path / "run"
    shutil.copytree(run, again)
    for step in range(stop + 1, NUM_STEPS + 1):
        shutil.rmtree(again / "checkpoints" / f"checkpoint-{step}")
    shutil.rmtree(again / "merged")
    observer = Silent()
    train(config.model_copy(update={"output": str(again)}), observer, resume=True)
    assert observer.began == [began for began in staged[2].began if began[2] > stop]
    for file in ("adapter/adapter_model.safetensors", "merged/model.safetensors"):
        first, second = load_file(run / file), load_file(again / file)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first), file


def test_the_record_of_the_proof_has_every_stage(staged) -> None:
    _, run, _ = staged
    proof = json.loads((run / "proof.json").read_text(encoding="utf-8"))
    assert proof["before"]["faults"] == []
    assert proof["entered"] == [0, 3, 7]
    assert {look["stage"] for look in proof["stages"]} == {1, 2, 3}
    assert all(look["unmoved"] == [] for look in proof["stages"])
    assert proof["end"]["unmoved"] == proof["without_gradient"] == []
    assert {row["tower"] for row in proof["end"]["rows"]} == {"vision", "projector", "language"}


def test_a_plateau_ends_a_stage_also_in_a_run_that_goes_on(
    tiny_folder, shapes_folder, tmp_path
) -> None:
    stages = [
        {"until": "plateau", "patience": 2, "min_delta": 0.9, "language": "freeze"},
        {"vision": "freeze"},
    ]
    config = _config(
        tiny_folder("qwen2_vl"),
        shapes_folder,
        tmp_path / "run",
        data={"eval": str(shapes_folder / "train.jsonl")},
        tuning={"vision": "freeze", "stages": stages},
        training={"eval_every": 1, "max_steps": 6},
    )
    observer = Silent()
    train(config, observer)
    # The first evaluation is the best so far; the second and third are no better by 90 %.
    assert observer.began == [(2, "stage 2", 3)]
    for step in (5, 6):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / f"checkpoint-{step}")
    first = load_file(tmp_path / "run" / "merged" / "model.safetensors")
    shutil.rmtree(tmp_path / "run" / "merged")
    again = Silent()
    train(config, again, resume=True)
    assert again.began == []
    second = load_file(tmp_path / "run" / "merged" / "model.safetensors")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_proof_leaves_no_trace_in_the_run(
    tiny_folder, shapes_folder, tmp_path, monkeypatch
) -> None:
    from sightline.training.proving import ProofWatch

    tuning = {"stages": [], "lora": {"dropout": 0.3}}
    made = {}
    for name in ("proven", "not proven"):
        config = _config(
            tiny_folder("qwen2_5_vl"),
            shapes_folder,
            tmp_path / name,
            tuning=tuning,
            training={"max_steps": 3, "save_every": 100},
        )
        if name == "not proven":
            monkeypatch.setattr(ProofWatch, "prove", lambda self: None)
        train(config, Silent())
        made[name] = load_file(tmp_path / name / "merged" / "model.safetensors")
    first, second = made.values()
    assert all(torch.equal(first[name], second[name]) for name in first)
