"""Runs side by side: what differs, and what each came to."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from sightline.errors import RunError
from sightline.records import append_jsonl, write_json
from sightline.report.compare import compare_record, load_runs, short_names
from sightline.report.compare_rows import NONE, compared_tables
from sightline.report.compare_table import comparison_report


@pytest.fixture
def first(tmp_path: Path, maker: Any) -> Path:
    """A proven run of 50 steps."""
    return maker.make_run(tmp_path / "first")


@pytest.fixture
def second(tmp_path: Path, maker: Any) -> Path:
    """A run of 20 steps on other data, of which a check fails."""
    run = maker.make_run(tmp_path / "second", family="qwen3_vl", fails=True)
    lines = maker.metrics_lines(20)
    (run / "metrics.jsonl").unlink()
    for line in lines:
        append_jsonl(run / "metrics.jsonl", line | {"memory_mib": 2048.0 + line["step"]})
    maker.rewrite(run / "run.json", data={"fingerprint": "b" * 16, "input": 9}, steps=20)
    return run


def _record(*runs: Path) -> dict[str, Any]:
    record = compare_record(load_runs(runs))
    # It is what --json prints.
    return json.loads(json.dumps(record, allow_nan=False))


def _table(record: dict[str, Any], title: str) -> dict[str, tuple[str, ...]]:
    [table] = [one for one in compared_tables(record) if one.title == title]
    return {row.name: row.values for row in table.rows}


def _change(run: Path, change: Any) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text("utf-8"))
    change(config)
    (run / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


def test_only_what_differs_in_the_configuration_is_told(first: Path, second: Path) -> None:
    assert _record(first, second)["configuration"] == []

    def change(config: dict[str, Any]) -> None:
        config["training"]["learning_rate"] = 0.5
        config["tuning"]["vision"] = {"mode": "full", "learning_rate": 1e-5}
        config["data"]["eval"] = [{"path": "a.jsonl", "hub": None, "weight": 1.0}]
        config["output"] = "elsewhere"
        del config["training"]["seed"]

    _change(second, change)
    record = _record(first, second)
    assert {one["key"]: one["values"] for one in record["configuration"]} == {
        "training.learning_rate": [0.008, 0.5],
        "training.seed": [0, None],
        "tuning.vision": ["freeze", {"learning_rate": 1e-5, "mode": "full"}],
        "data.eval": [None, [{"hub": None, "path": "a.jsonl", "weight": 1.0}]],
    }
    told = _table(record, "settings that differ")
    assert told["training.learning_rate"] == ("0.008", "0.5")
    assert told["data.eval"] == (NONE, "path: a.jsonl, weight: 1.0")
    assert told["tuning.vision"] == ("freeze", "learning_rate: 1e-05, mode: full")


def test_sources_are_compared_one_by_one(first: Path, second: Path) -> None:
    def sources(*paths: str) -> Any:
        def change(config: dict[str, Any]) -> None:
            config["data"]["train"] = [{"path": path, "weight": 1.0} for path in paths]

        return change

    _change(first, sources("a.jsonl", "b.jsonl"))
    _change(second, sources("a.jsonl", "c.jsonl", "d.jsonl"))
    assert {one["key"]: one["values"] for one in _record(first, second)["configuration"]} == {
        "data.train[1].path": ["b.jsonl", "c.jsonl"],
        "data.train[2]": [None, {"path": "d.jsonl", "weight": 1.0}],
    }


def test_true_is_not_one(first: Path, second: Path) -> None:
    _change(first, lambda config: config["training"].update(seed=1))
    _change(second, lambda config: config["training"].update(seed=True))
    [found] = _record(first, second)["configuration"]
    assert found == {"key": "training.seed", "values": [1, True]}


def test_losses_of_runs_that_ended_at_other_steps(first: Path, second: Path) -> None:
    record = _record(first, second)
    assert record["common_step"] == 20
    one, other = record["runs"]
    assert one["loss"]["final"] == {"step": 50, "value": 6.4e-4}
    assert other["loss"]["final"]["step"] == 20
    lines = [json.loads(line) for line in (first / "metrics.jsonl").read_text("utf-8").splitlines()]
    logged = {line["step"]: line["loss"] for line in lines if "loss" in line}
    assert one["loss"]["at_common_step"] == logged[20]
    lowest = min(logged, key=lambda step: logged[step])
    assert one["loss"]["lowest"] == {"step": lowest, "value": logged[lowest]}
    assert one["held_out_loss"]["final"]["step"] == 50
    told = _table(record, "loss")
    assert told["at step 20, the last that all logged"][1] == told["final"][1].split(",")[0]


def test_runs_that_ended_at_one_step_have_no_other_in_common(
    tmp_path: Path, first: Path, maker: Any
) -> None:
    record = _record(first, maker.make_run(tmp_path / "third"))
    assert record["common_step"] is None
    assert not [name for name in _table(record, "loss") if name.startswith("at step")]


def test_outcome_names_what_fails_and_what_was_alarmed(first: Path, second: Path) -> None:
    alarm = {"seen": "s", "cause": "c", "remedy": "r"}
    for step in (7, 12):
        append_jsonl(second / "alarms.jsonl", {"id": "gradient.zero", "step": step} | alarm)
    told = _table(_record(first, second), "outcome")
    assert told["certificate"] == ("holds", "FAILS")
    assert told["checks that fail"] == (NONE, "logits.cache_equals_whole")
    assert told["alarms"] == (NONE, "gradient.zero, step 7, 2 times")


def test_data_and_family_that_differ_are_said(first: Path, second: Path, maker: Any) -> None:
    record = _record(first, second)
    assert record["data"] == {"fingerprints": [None, "b" * 16], "same": None}
    maker.rewrite(first / "run.json", data={"fingerprint": "a" * 16, "input": 4})
    record = _record(first, second)
    assert record["data"]["same"] is False
    told = _table(record, "data and model")
    assert told["family"] == ("Qwen2.5-VL", "Qwen3-VL")
    assert told["fingerprint"] == ("a" * 16, "b" * 16)
    maker.rewrite(first / "run.json", data={"fingerprint": "b" * 16, "input": 9})
    record = _record(first, second)
    assert record["data"]["same"] is True
    assert "fingerprint" not in _table(record, "data and model")


def test_versions_that_differ(first: Path, second: Path, maker: Any) -> None:
    assert _record(first, second)["versions"] == []
    maker.rewrite(second / "run.json", versions={"torch": "2.11.0", "python": "3.11.9"})
    told = _table(_record(first, second), "versions that differ")
    assert told["torch"] == ("2.15.0", "2.11.0")
    assert told["peft"] == ("0.21.2", NONE)
    assert "python" not in told


def test_cost_is_told(first: Path, second: Path) -> None:
    told = _table(_record(first, second), "cost")
    assert told["time of training"] == ("1 min 12 s", "1 min 12 s")
    assert told["most memory"] == (NONE, "2.02 GiB")
    assert told["trains, of the model's size"][0].endswith("69.1 M")


def test_measures_come_with_their_intervals(first: Path, second: Path, whole_maker: Any) -> None:
    one = {"name": "map", "title": "mAP", "value": 0.75, "low": 0.5, "high": 0.875, "num": 40}
    record = whole_maker.evaluation_record() | {"metrics": [one]}
    write_json(first / "evaluation.json", record)
    append_jsonl(second / "metrics.jsonl", {"step": 20, "eval_loss": 1.0, "eval_map": 0.25})
    told = _table(_record(first, second), "measures of answers")
    assert told == {"mAP": ("0.750\n(0.500 to 0.875)\nof 40", "0.250\nat step 20")}


def test_a_run_without_records_is_all_dashes(tmp_path: Path, first: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    write_json(empty / "run.json", {"schema": 1, "state": "training"})
    record = _record(first, empty)
    assert _table(record, "loss")["final"][1] == NONE
    assert _table(record, "outcome")["certificate"][1] == "not verified"
    assert record["data"]["same"] is None


@pytest.mark.parametrize("number", [2, 3, 4, 7])
def test_tables_fit_80_columns(tmp_path: Path, maker: Any, number: int) -> None:
    runs = [maker.make_run(tmp_path / f"r{place}", fails=place == 1) for place in range(number)]
    for place, run in enumerate(runs):
        _change(run, lambda config, at=place: config["data"].update(train=f"/a/{'b' * 90}/{at}"))
    console = Console(width=80, record=True, file=(tmp_path / "out").open("w"))
    console.print(comparison_report(_record(*runs)))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    # Every run's value stands in it, over as many tables as it takes.
    assert text.count("FAILS") == 1
    assert text.count("holds") == number - 1
    assert [line.split() for line in lines[:number]] == [
        [chr(65 + place), f"r{place}"] for place in range(number)
    ]


def test_every_table_has_a_value_for_every_run(first: Path, second: Path) -> None:
    tables = compared_tables(_record(first, second))
    assert [table.title for table in tables][:2] == ["outcome", "loss"]
    for table in tables:
        assert table.rows or table.note
        assert all(len(row.values) == 2 and all(row.values) for row in table.rows)


def test_names_are_as_long_as_they_must_be() -> None:
    paths = [Path("/x/a/run"), Path("/x/b/run"), Path("/x/b/other"), Path("/run")]
    assert short_names(paths) == ["a/run", "b/run", "other", "/run"]


def test_one_run_or_none_is_refused(first: Path) -> None:
    with pytest.raises(RunError, match=r"1 run directory was named: .*takes two"):
        load_runs([first])


def test_a_run_that_is_named_twice_is_refused(first: Path, second: Path) -> None:
    link = first.parent / "link"
    link.symlink_to(first)
    with pytest.raises(RunError, match=f"{link}: the same run directory as {first}"):
        load_runs([first, second, link])


def test_what_is_no_run_is_refused(first: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run directory"):
        load_runs([first, tmp_path])


def test_a_loss_that_is_not_finite_is_left_out(first: Path, second: Path) -> None:
    with (second / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 21, "loss": null}\n')
    final = _record(first, second)["runs"][1]["loss"]["final"]
    assert final["step"] == 20
    assert math.isfinite(final["value"])
