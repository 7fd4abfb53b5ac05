"""DeepSpeed's and FSDP's settings of other tools: the engine that they become."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import ConfigError


def engine(tools, result: Any) -> str:
    """The engine of the written run.yaml, as a run loads it."""
    return tools.loaded(result).training.parallel


def refusal(tools, **keys: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        tools.llamafactory(**keys)
    message = str(caught.value)
    assert str(tools.folder / "train.yaml") in message
    return message


@pytest.mark.parametrize(
    ("name", "expected", "has_offload"),
    [
        ("zero0", "ddp", False),
        ("zero1", "zero1", False),
        ("zero2", "zero2", False),
        ("zero3", "zero3", False),
        ("zero2_offload", "zero2", True),
        ("zero3_offload", "zero3", True),
        ("ds/ds_z3_config.json", "zero3", False),
        ("ds/ds_z2_offload_config.json", "zero2", True),
        ("stage-1.json", "zero1", False),
    ],
)
def test_a_name_tells_the_stage_where_there_is_no_file(
    tools, name: str, expected: str, has_offload: bool
) -> None:
    result = tools.swift(f"--deepspeed {name}")
    assert engine(tools, result) == expected
    first, *rest = tools.rows(result, "deepspeed")
    assert (first.target, first.verdict) == ("training.parallel", "carried")
    # A preset of ms-swift is no file.
    assert ("no such file" in first.note) == name.endswith(".json")
    assert [row.verdict for row in rest] == ["none"] * has_offload
    assert all("No offload" in row.note for row in rest)


def test_a_file_comes_before_its_name(tools) -> None:
    settings = {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}
    (tools.folder / "zero3.json").write_text(json.dumps(settings))
    result = tools.llamafactory(deepspeed="zero3.json")
    assert engine(tools, result) == "zero2"
    first, offload = tools.rows(result, "deepspeed")
    assert "no such file" not in first.note
    assert offload.verdict == "none"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"zero_optimization": {"stage": 1}}, "zero1"),
        ({"zero_optimization": {"stage": 3, "offload_param": {"device": "none"}}}, "zero3"),
        ({"zero_optimization": {}}, "ddp"),
        ({"bf16": {"enabled": "auto"}}, "ddp"),
    ],
)
def test_settings_in_the_file_itself(tools, settings: dict[str, Any], expected: str) -> None:
    for result in (
        tools.llamafactory(deepspeed=settings),
        tools.swift(f"--deepspeed '{json.dumps(settings)}'"),
        tools.swift_file(deepspeed=settings),
    ):
        assert engine(tools, result) == expected
        assert len(tools.rows(result, "deepspeed")) == 1


def test_what_else_deepspeed_s_file_decides_is_said(tools) -> None:
    settings = {
        "zero_optimization": {"stage": 3},
        "scheduler": {"type": "WarmupLR"},
        "tensor_parallel": {"autotp_size": 2},
    }
    result = tools.llamafactory(deepspeed=settings, lr_scheduler_type="cosine")
    _, scheduler, tensor = tools.rows(result, "deepspeed")
    assert (scheduler.target, scheduler.result, scheduler.verdict) == (
        "training.scheduler",
        "cosine",
        "differs",
    )
    assert "WarmupLR" in scheduler.note
    assert tensor.verdict == "none"


def test_a_name_without_a_stage_is_left_out(tools) -> None:
    result = tools.llamafactory(deepspeed="cache/ds_config.json")
    assert engine(tools, result) == "ddp"
    [said] = tools.rows(result, "deepspeed")
    assert said.verdict == "none"
    assert "training.parallel" in said.note


@pytest.mark.parametrize(
    ("value", "expected", "verdict"),
    [
        ("full_shard auto_wrap", "fsdp", "carried"),
        (["full_shard", "auto_wrap"], "fsdp", "carried"),
        (True, "fsdp", "carried"),
        ("shard_grad_op auto_wrap", "fsdp", "differs"),
        ("hybrid_shard", "fsdp", "differs"),
        ("no_shard", "ddp", "carried"),
        (False, "ddp", "none"),
        ("", "ddp", "none"),
    ],
)
def test_fsdp(tools, value: Any, expected: str, verdict: str) -> None:
    result = tools.llamafactory(fsdp=value)
    assert engine(tools, result) == expected
    [said] = tools.rows(result, "fsdp")
    assert said.verdict == verdict


@pytest.mark.parametrize(
    ("config", "verdicts"),
    [
        ({"fsdp_version": 2, "reshard_after_forward": True}, ["carried"]),
        ({"reshard_after_forward": False}, ["differs"]),
        ({"fsdp_reshard_after_forward": "false"}, ["differs"]),
        ({"cpu_offload": True}, ["carried", "none"]),
        ({"fsdp_offload_params": "true"}, ["carried", "none"]),
        ({"fsdp_offload_params": False}, ["carried"]),
    ],
)
def test_fsdp_config(tools, config: dict[str, Any], verdicts: list[str]) -> None:
    (tools.folder / "fsdp.json").write_text(json.dumps(config))
    for given in (config, "fsdp.json"):
        result = tools.llamafactory(fsdp=True, fsdp_config=given)
        assert engine(tools, result) == "fsdp"
        assert [row.verdict for row in tools.rows(result, "fsdp")] == verdicts
        assert tools.rows(result, "fsdp_config")[0].verdict == "carried"


def test_fsdp_config_alone_or_missing_is_said(tools) -> None:
    alone = tools.llamafactory(fsdp_config={"cpu_offload": True})
    assert engine(tools, alone) == "ddp"
    assert tools.rows(alone, "fsdp_config")[0].verdict == "none"
    missing = tools.llamafactory(fsdp=True, fsdp_config="no.json")
    assert engine(tools, missing) == "fsdp"
    assert "no such file" in tools.rows(missing, "fsdp_config")[0].note


def test_activation_checkpointing_is_ours(tools) -> None:
    config = {"activation_checkpointing": True}
    result = tools.llamafactory(fsdp=True, fsdp_config=config, disable_gradient_checkpointing=True)
    assert tools.loaded(result).training.gradient_checkpointing is True
    off = tools.llamafactory(fsdp=True, fsdp_config={}, disable_gradient_checkpointing=True)
    assert tools.loaded(off).training.gradient_checkpointing is False


def test_swift_s_presets_and_files_of_fsdp(tools) -> None:
    preset = tools.swift("--fsdp fsdp2 --gradient_checkpointing false")
    assert engine(tools, preset) == "fsdp"
    assert tools.loaded(preset).training.gradient_checkpointing is True
    content = {"fsdp": "shard_grad_op offload", "fsdp_config": {"fsdp_version": 2}}
    (tools.folder / "own.json").write_text(json.dumps(content))
    result = tools.swift("--fsdp own.json")
    assert engine(tools, result) == "fsdp"
    assert [row.verdict for row in tools.rows(result, "fsdp")] == ["differs", "none"]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"deepspeed": "ds_z3_config.json"}, "ddp"),
        ({"fsdp": "full_shard"}, "ddp"),
        ({"deepspeed": "ds_z2_config.json"}, "zero2"),
    ],
)
def test_a_quantised_base_is_not_cut(tools, keys: dict[str, Any], expected: str) -> None:
    result = tools.llamafactory(quantization_bit=4, **keys)
    assert engine(tools, result) == expected
    [said] = tools.rows(result, next(iter(keys)))
    assert said.verdict == ("differs" if expected == "ddp" else "carried")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"deepspeed": {"zero_optimization": {"stage": 4}}}, ("deepspeed", "stage is 4", "0 to 3")),
        ({"deepspeed": {"zero_optimization": {"stage": "two"}}}, ("deepspeed", "a number")),
        ({"deepspeed": "{broken"}, ("deepspeed", "not JSON")),
        ({"deepspeed": ["a", "b"]}, ("deepspeed", "a file is expected")),
        ({"deepspeed": "bad.json"}, ("deepspeed", "bad.json", "not JSON")),
        ({"fsdp": "full_shart"}, ("fsdp", "'full_shart'", "full_shard")),
        ({"fsdp": True, "fsdp_config": "bad.json"}, ("fsdp_config", "bad.json")),
        ({"fsdp": True, "deepspeed": "zero2"}, ("fsdp", "deepspeed", "one of them")),
    ],
)
def test_wrong_values_are_refused_with_their_key(
    tools, keys: dict[str, Any], words: tuple[str, ...]
) -> None:
    Path("bad.json").write_text("{")
    message = refusal(tools, **keys)
    for word in words:
        assert word in message
