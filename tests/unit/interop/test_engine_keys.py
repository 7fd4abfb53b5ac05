"""The best checkpoint, kernels and compiling in other tools' files."""

from __future__ import annotations

from typing import Any

import pytest

from sightline.errors import ConfigError

HELD_OUT = {"eval_dataset": "demo", "load_best_model_at_end": True}


@pytest.mark.parametrize(
    ("keys", "best_by"),
    [
        (HELD_OUT, "eval_loss"),
        (HELD_OUT | {"metric_for_best_model": "eval_loss"}, "eval_loss"),
        (HELD_OUT | {"metric_for_best_model": "loss", "greater_is_better": False}, "eval_loss"),
        (HELD_OUT | {"metric_for_best_model": "loss", "greater_is_better": True}, None),
        (HELD_OUT | {"metric_for_best_model": "eval_accuracy"}, None),
        (HELD_OUT | {"load_best_model_at_end": False}, None),
        ({"eval_dataset": "demo", "metric_for_best_model": "loss"}, None),
        ({"load_best_model_at_end": True}, None),
    ],
)
def test_the_best_checkpoint(tools, keys: dict[str, Any], best_by: str | None) -> None:
    result = tools.llamafactory(**keys)
    assert tools.loaded(result).training.best_by == best_by
    for key in set(keys) - {"eval_dataset"}:
        [said] = tools.rows(result, key)
        off = key == "load_best_model_at_end" and not keys[key]
        assert said.verdict == ("carried" if best_by or off else "none")
        assert said.note or best_by


def test_why_there_is_no_best_is_said(tools) -> None:
    def note(**keys: Any) -> str:
        result = tools.llamafactory(**HELD_OUT | keys)
        return tools.rows(result, "load_best_model_at_end")[0].note

    assert "not by eval_accuracy" in note(metric_for_best_model="eval_accuracy")
    assert "highest loss" in note(greater_is_better=True)
    assert "No held-out data" in note(eval_dataset=None)


def test_the_best_of_swift(tools) -> None:
    flags = "--val_dataset data/own.jsonl --load_best_model_at_end true --greater_is_better false"
    assert tools.loaded(tools.swift(flags)).training.best_by == "eval_loss"
    assert tools.loaded(tools.swift(flags.replace("_dataset", "_no"))).training.best_by is None


@pytest.mark.parametrize(
    ("keys", "is_on", "verdicts"),
    [
        ({"torch_compile": True}, True, ["carried"]),
        ({"torch_compile": "false"}, False, ["carried"]),
        ({"torch_compile_backend": "inductor"}, True, ["carried"]),
        ({"torch_compile": False, "torch_compile_mode": "max-autotune"}, True, ["none", "differs"]),
        ({"torch_compile_backend": "eager"}, True, ["differs"]),
        ({}, False, []),
    ],
)
def test_compiling(tools, keys: dict[str, Any], is_on: bool, verdicts: list[str]) -> None:
    result = tools.llamafactory(**keys)
    assert tools.loaded(result).training.compile is is_on
    rows = [row for key in keys for row in tools.rows(result, key)]
    assert [row.verdict for row in rows] == verdicts
    assert all(row.target == "training.compile" for row in rows if row.verdict != "none")


@pytest.mark.parametrize(("wanted", "verdict"), [(True, "differs"), (False, "carried")])
def test_liger(tools, wanted: bool, verdict: str) -> None:
    for result, key in (
        (tools.llamafactory(enable_liger_kernel=wanted), "enable_liger_kernel"),
        (tools.swift(f"--use_liger_kernel {wanted}"), "use_liger_kernel"),
        (tools.official(f"--use_liger_kernel {wanted}"), "use_liger_kernel"),
    ):
        assert tools.loaded(result).training.head_loss == "auto"
        [said] = tools.rows(result, key)
        assert (said.target, said.verdict) == ("training.head_loss", verdict)
        assert ("head_loss: liger" in said.note) is wanted


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"ray_run_name": "one", "ray_storage_path": "s3"}, "--ray"),
        ({"group_by_length": True, "train_sampling_strategy": "group_by_length"}, "no padding"),
        ({"ddp_timeout": 9, "ddp_find_unused_parameters": False}, "by torch's own settings"),
        ({"auto_find_batch_size": True}, "what would fit"),
    ],
)
def test_keys_that_need_no_counterpart(tools, keys: dict[str, Any], words: str) -> None:
    result = tools.llamafactory(**keys)
    for key in keys:
        [said] = tools.rows(result, key)
        assert said.verdict == "none"
        assert words in said.note


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"load_best_model_at_end": "sometimes"}, ("load_best_model_at_end", "true or false")),
        (HELD_OUT | {"greater_is_better": "up"}, ("greater_is_better", "true or false")),
        (HELD_OUT | {"metric_for_best_model": ["a"]}, ("metric_for_best_model", "one word")),
        ({"torch_compile": "fast"}, ("torch_compile", "'fast'")),
        ({"enable_liger_kernel": 7}, ("enable_liger_kernel", "7 is given")),
    ],
)
def test_wrong_values_are_refused_with_their_key(
    tools, keys: dict[str, Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError) as caught:
        tools.llamafactory(**keys)
    for word in (str(tools.folder / "train.yaml"), *words):
        assert word in str(caught.value)
