"""Engines that are not there, or that cannot hold what they are given, are refused."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from sightline.config import TrainingConfig
from sightline.errors import ConfigError, PlanError
from sightline.training.parallel.engine import (
    refuse_unable_engine,
    shares_weights,
    uses_deepspeed,
)
from sightline.training.parallel.on_ray import work_on_ray
from sightline.training.parallel.zero import deepspeed_config


def _refuse(
    parallel: str, *, is_quantized: bool = False, num_stages: int = 1, answers: bool = False
) -> None:
    training = TrainingConfig.model_validate({"parallel": parallel})
    refuse_unable_engine(
        training, is_quantized=is_quantized, num_stages=num_stages, answers=answers
    )


@pytest.mark.skipif(find_spec("deepspeed") is not None, reason="DeepSpeed is installed")
@pytest.mark.parametrize("parallel", ["zero1", "zero2", "zero3"])
def test_deepspeed_that_is_not_installed_is_refused_with_the_command(parallel: str) -> None:
    with pytest.raises(ConfigError) as refused:
        _refuse(parallel)
    assert f"training.parallel is {parallel}" in str(refused.value)
    assert "pip install 'sightline[deepspeed]'" in str(refused.value)


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_ray_that_is_not_installed_is_refused_with_the_command(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"pip install 'sightline\[ray\]'"):
        work_on_ray(pytest.fail, num_processes=2, address="local", storage=tmp_path)


def test_quantised_weights_are_not_cut_into_slices() -> None:
    with pytest.raises(PlanError, match=r"training.parallel is fsdp.*\n.*ddp: in 4 or 8 bits"):
        _refuse("fsdp", is_quantized=True)
    _refuse("ddp", is_quantized=True)


def test_answers_are_refused_where_no_process_has_a_whole_model(monkeypatch) -> None:
    monkeypatch.setattr("sightline.training.parallel.engine.find_spec", lambda name: name)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for parallel in ("fsdp", "zero3"):
        with pytest.raises(PlanError, match=rf"{parallel}, which leaves no process a whole model"):
            _refuse(parallel, answers=True)
        _refuse(parallel)
    for parallel in ("ddp", "zero1", "zero2"):
        _refuse(parallel, answers=True)
    monkeypatch.setenv("WORLD_SIZE", "1")
    _refuse("fsdp", answers=True)


def test_stages_are_refused_where_a_missing_gradient_is_zero(monkeypatch) -> None:
    # Whether DeepSpeed is installed is asked first.
    monkeypatch.setattr("sightline.training.parallel.engine.find_spec", lambda name: name)
    with pytest.raises(PlanError, match=r"is zero2, and tuning.stages has 3 stages"):
        _refuse("zero2", num_stages=3)
    _refuse("zero2")
    _refuse("fsdp", num_stages=3)


@pytest.mark.parametrize(
    ("parallel", "processes", "expected"),
    [
        ("ddp", 2, (False, False)),
        ("fsdp", 2, (True, False)),
        ("zero1", 2, (False, True)),
        # One process has nobody to share with.
        ("fsdp", 1, (False, False)),
        ("zero3", 1, (False, False)),
    ],
)
def test_one_process_shares_nothing(parallel, processes, expected, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    training = TrainingConfig.model_validate({"parallel": parallel})
    assert (shares_weights(training), uses_deepspeed(training)) == expected
    assert (deepspeed_config(training, bf16=False) is not None) == expected[1]


def test_deepspeed_clips_as_the_run_says_and_counts_no_micro_batches(monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    training = TrainingConfig.model_validate(
        {"parallel": "zero2", "max_grad_norm": 0.5, "gradient_accumulation": 4}
    )
    config = deepspeed_config(training, bf16=True)
    assert config is not None
    assert config["zero_optimization"]["stage"] == 2
    assert config["gradient_clipping"] == 0.5
    assert config["gradient_accumulation_steps"] == 1
    assert config["bf16"] == {"enabled": True}
