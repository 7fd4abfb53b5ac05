"""A run that does not train what its plan says ends with the cause."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from sightline.config import RunConfig
from sightline.errors import PlanError
from sightline.training import SilentObserver, train
from sightline.training.trainer import SightlineTrainer


class Silent(SilentObserver):
    """Says nothing; may bring callbacks along."""

    def __init__(self, *callbacks: Any) -> None:
        self._callbacks = list(callbacks)

    def trainer_callbacks(self) -> list[Any]:
        return self._callbacks


@pytest.fixture
def config(tiny_folder, shapes_folder, tmp_path) -> Callable[..., RunConfig]:
    def make(data: Path | None = None, **tuning: Any) -> RunConfig:
        training = tuning.pop("training", {})
        return RunConfig.model_validate(
            {
                "model": str(tiny_folder("qwen2_5_vl")),
                "data": {"train": str(data or shapes_folder / "train.jsonl")},
                "tuning": tuning,
                "training": {
                    "max_steps": 5,
                    "learning_rate": 1e-3,
                    "gradient_accumulation": 1,
                    "warmup_ratio": 0.0,
                    "save_every": 100,
                }
                | training,
                "verify": {"samples": 1, "max_new_tokens": 12},
                "output": str(tmp_path / "run"),
            }
        )

    return make


def _proof(config: RunConfig) -> dict[str, Any]:
    return json.loads((Path(config.output) / "proof.json").read_text(encoding="utf-8"))


class SetBack(TrainerCallback):
    """Undoes every step on one tensor, as a wrapper with weights of its own might."""

    def __init__(self, name: str) -> None:
        self._name = name

    def _find(self, model: Any) -> torch.Tensor:
        return next(p for name, p in model.named_parameters() if self._name in name)

    def on_train_begin(self, args, state, control, model=None, **kwargs) -> None:
        self._before = self._find(model).detach().clone()

    def on_optimizer_step(self, args, state, control, model=None, **kwargs) -> None:
        with torch.no_grad():
            self._find(model).copy_(self._before)


@pytest.mark.parametrize(
    "name", ["layers.1.self_attn.v_proj.lora_B", "merger.modules_to_save.default.mlp.0.weight"]
)
def test_a_tensor_that_is_set_back_ends_the_run(config, name: str) -> None:
    given = config()
    with pytest.raises(PlanError, match=r"after step 3, .* have not moved") as refused:
        train(given, Silent(SetBack(name)))
    assert "Something sets it back after each step" in str(refused.value)
    assert len(_proof(given)["stages"][0]["unmoved"]) >= 1


def test_a_tensor_that_the_optimizer_does_not_hold_ends_the_run(config, monkeypatch) -> None:
    groups = SightlineTrainer._groups

    def without_one(self: SightlineTrainer) -> list[dict[str, Any]]:
        made = groups(self)
        del made[0]["params"][0]
        return made

    monkeypatch.setattr(SightlineTrainer, "_groups", without_one)
    with pytest.raises(PlanError, match="the optimizer does not hold 1 of"):
        train(config(), Silent())


def test_data_without_pictures_under_a_plan_for_the_projector(config, tmp_path) -> None:
    row = {
        "messages": [
            {"role": "user", "content": "Two colours?"},
            {"role": "assistant", "content": "red and blue"},
        ]
    }
    data = tmp_path / "words.jsonl"
    data.write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(PlanError, match="5 with no gradient in projector") as refused:
        train(config(data), Silent())
    assert "No sample that was looked at has a picture or a video" in str(refused.value)
    assert len(_proof(config(data))["before"]["faults"]) == 5
    given = config(data, projector="freeze").model_copy(
        update={"output": str(tmp_path / "words only")}
    )
    assert train(given, Silent()).num_steps == 5


class Thaw(TrainerCallback):
    """Sets a frozen weight free in the middle of a run."""

    def on_step_begin(self, args, state, control, model=None, **kwargs) -> None:
        if state.global_step == 2:
            model.get_base_model().model.visual.blocks[0].mlp.up_proj.weight.requires_grad_(True)


def test_a_weight_that_is_set_free_on_the_way_is_found_at_its_end(config) -> None:
    from sightline.checks.verify import verify_run

    given = config()
    train(given, Silent(Thaw()))
    # The optimizer does not hold it, so it did not move: what is not on its list cannot.
    findings = {one.id: one for one in verify_run(Path(given.output), lambda finding: None)}
    assert findings["weights.frozen"].holds


def test_a_first_step_of_warm_up_moves_nothing_and_is_no_fault(config) -> None:
    given = config(training={"max_steps": 1, "warmup_ratio": 0.5})
    assert train(given, Silent()).num_steps == 1
    assert _proof(given)["stages"] == []


def test_steps_too_small_to_tell_are_waited_for(config) -> None:
    given = config(training={"learning_rate": 1e-12})
    train(given, Silent())
    proof = _proof(given)
    # What was zero shows the smallest step; what was not is left for later.
    looked_at = {row["tower"]: row["num_tensors"] for row in proof["stages"][0]["rows"]}
    wanted = {"projector": 0, "language": 0}
    for row in proof["before"]["rows"]:
        wanted[row["tower"]] += row["num_tensors"]
    assert proof["stages"][0]["unmoved"] == []
    assert looked_at["language"] < wanted["language"]
    assert looked_at["projector"] < wanted["projector"]
    # 1e-12 is under what float32 holds of most weights: the certificate says what did not move.
    assert "model.visual.merger.ln_q.weight" in proof["end"]["unmoved"]
