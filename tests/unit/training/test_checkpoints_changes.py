"""What may be otherwise when a run goes on, and what is refused with both values."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from sightline.config import RunConfig
from sightline.errors import RunError
from sightline.training.checkpoints.changes import (
    changed_keys,
    foreign_to,
    refuse_other_configuration,
    refuse_other_origin,
)
from sightline.training.checkpoints.origin import Origin, SourceFile


def _config(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "model": "tiny:qwen2_vl",
        "data": {"train": ["a.jsonl", "b.jsonl"]},
        "tuning": {"language": "lora"},
        "output": "runs/one",
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            values[section] = values.get(section, {}) | {name: value}
        else:
            values[section] = value
    return RunConfig.model_validate(values).model_dump(mode="json")


def _origin(**changes: Any) -> Origin:
    origin = Origin(
        config=_config(),
        fingerprint="f1",
        files=(
            SourceFile(path="a.jsonl", rows="r1", media="m1", newest_ns=5),
            SourceFile(path="b.jsonl", rows="r2", media="m2", newest_ns=6),
        ),
        base="b1",
        versions={"torch": "2.15", "transformers": "5.23", "pillow": "12"},
        world_size=1,
    )
    return dataclasses.replace(origin, **changes)


def test_every_key_that_differs_is_named_with_both_values() -> None:
    then = _config()
    now = _config(
        training__learning_rate=2e-4,
        data__train=["a.jsonl", "c.jsonl"],
        tuning={"language": "full"},
    )
    with pytest.raises(RunError) as refused:
        refuse_other_configuration(then, now, "runs/one")
    said = str(refused.value)
    assert said.startswith("runs/one: the run was started with another configuration:\n")
    assert "  training.learning_rate: 0.0001 then, 0.0002 now\n" in said
    assert "  data.train[1].path: b.jsonl then, c.jsonl now\n" in said
    assert "lora then, full now\n" in said
    assert "data.train[0]" not in said
    assert "--overwrite" in said


def test_a_source_more_or_less_is_named() -> None:
    more = _config(data__train=["a.jsonl", "b.jsonl", "c.jsonl"])
    [change] = [one for one in changed_keys(_config(), more) if one.key.endswith("path")]
    assert str(change) == "data.train[2].path: nothing then, c.jsonl now"
    [change] = [one for one in changed_keys(more, _config()) if one.key.endswith("path")]
    assert str(change) == "data.train[2].path: c.jsonl then, nothing now"


@pytest.mark.parametrize(
    "changes",
    [
        {"training__save_every": 7},
        {"training__save_total_limit": 9},
        {"training__num_workers": 3},
        {"training__report_to": ["tensorboard"]},
        {"verify__samples": 2},
        {"verify__enabled": False},
        {"export__merged": False},
        {"output": "elsewhere"},
        {"data__index_folder": "elsewhere"},
    ],
)
def test_what_cannot_change_the_result_may_be_otherwise(changes: dict[str, Any]) -> None:
    now = _config(**changes)
    assert now != _config()
    assert changed_keys(_config(), now) == []


@pytest.mark.parametrize("key", ["log_every", "eval_every", "seed", "max_steps", "best_by"])
def test_what_changes_the_record_is_refused(key: str) -> None:
    value = "eval_loss" if key == "best_by" else 3
    now = _config(data__train=["a.jsonl", "b.jsonl"])
    now["training"][key] = value
    with pytest.raises(RunError, match=f"training.{key}: "):
        refuse_other_configuration(_config(), now, "runs/one")


def test_the_same_is_the_same() -> None:
    assert refuse_other_origin(_origin(), _origin(), "run") == []
    assert Origin.read(_origin().record()) == _origin()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("r9", "m1"), "  a.jsonl: its rows have changed\n"),
        (("r1", "m9"), "  a.jsonl: pictures or videos that it names have changed\n"),
    ],
)
def test_the_file_that_changed_is_named(files: tuple[str, str], said: str) -> None:
    first, second = _origin().files
    changed = dataclasses.replace(first, rows=files[0], media=files[1])
    # The fingerprint is of lengths alone: another word of the same length leaves it.
    with pytest.raises(RunError) as refused:
        refuse_other_origin(_origin(), _origin(files=(changed, second)), "run")
    assert said in str(refused.value)
    assert "b.jsonl" not in str(refused.value)


def test_files_that_came_and_went_are_named() -> None:
    first, second = _origin().files
    third = dataclasses.replace(second, path="c.jsonl")
    with pytest.raises(RunError) as refused:
        refuse_other_origin(_origin(), _origin(files=(first, third), fingerprint="f2"), "run")
    said = str(refused.value)
    assert "(fingerprint f1 then, f2 now)" in said
    assert "  b.jsonl: it is no longer among them\n" in said
    assert "  c.jsonl: it was not among them\n" in said


def test_data_that_are_measured_otherwise_are_refused() -> None:
    with pytest.raises(RunError, match="no file has changed, but they are measured otherwise"):
        refuse_other_origin(_origin(), _origin(fingerprint="f2"), "run")


def test_media_that_were_written_again_are_told() -> None:
    first, second = _origin().files
    touched = dataclasses.replace(second, newest_ns=60)
    [note] = refuse_other_origin(_origin(), _origin(files=(first, touched)), "run")
    assert note.startswith("Media of b.jsonl were written again")


def test_another_base_is_refused_with_both() -> None:
    with pytest.raises(RunError, match=r"tiny:qwen2_vl are not those.*b1 then, b2 now"):
        refuse_other_origin(_origin(), _origin(base="b2"), "run")


def test_other_versions_are_told_and_not_refused() -> None:
    versions = {"torch": "2.16", "transformers": "5.23", "pillow": "13"}
    [note] = refuse_other_origin(_origin(), _origin(versions=versions), "run")
    assert "not bit by bit" in note
    assert "torch: 2.15 then, 2.16 now" in note
    assert "pillow" not in note


@pytest.mark.parametrize(
    ("world_size", "changes", "is_same"),
    [
        (2, {"training__gradient_accumulation": 4}, True),
        (4, {"training__gradient_accumulation": 2}, True),
        (2, {}, False),
        (1, {"training__batch_size": 2, "training__gradient_accumulation": 4}, True),
        (1, {"training__batch_size": 2}, False),
    ],
)
def test_a_step_stays_as_many_samples(
    world_size: int, changes: dict[str, Any], is_same: bool
) -> None:
    now = _origin(config=_config(**changes), world_size=world_size)
    if is_same:
        [note] = refuse_other_origin(_origin(), now, "run")
        assert "not bit by bit" in note
        return
    with pytest.raises(RunError, match=r"a step was 8 samples and would now be 16 .*1 x 8 x 1"):
        refuse_other_origin(_origin(), now, "run")


def test_a_step_in_tokens_may_be_shared_by_any_number_of_processes() -> None:
    config = _config(training__tokens_per_step=4096)
    notes = refuse_other_origin(_origin(config=config), _origin(config=config, world_size=4), "run")
    assert "processes: 1 then, 4 now" in notes[0]


def test_a_checkpoint_of_another_run_is_known() -> None:
    state = {"origin": _origin(config=_config(training__seed=3)).record()}
    said = foreign_to(_config(), state)
    assert said == "it is of another run: training.seed is 3 in it, 42 in this one"
    assert foreign_to(_config(training__seed=3, output="moved"), state) is None
    assert str(foreign_to(_config(), {"origin": None})).startswith("its state.json is broken")
