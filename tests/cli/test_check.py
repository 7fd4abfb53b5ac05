"""``sightline check`` on data with every kind of trouble."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image


def turns(question: str, answer: str, **more: object) -> dict:
    said = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"conversations": said, **more}


@pytest.fixture
def run_yaml(tmp_path: Path) -> Path:
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    Image.new("RGB", (900, 900)).save(tmp_path / "large.png")
    rows = [turns("<image>What?", f"A bird, number {n}.", image="a.png") for n in range(20)]
    rows += [rows[0], rows[1]]
    rows += [turns("<image>What?", "Large.", image="large.png")]
    rows += [turns("Why?", "Because " * 200, image=[])]
    rows += [turns("<image>What?", "Gone.", image="gone.png")]
    rows += [{"conversations": [{"from": "robot", "value": "Hi"}], "image": "a.png"}]
    lines = [json.dumps(row) for row in rows] + ["{broken"]
    (tmp_path / "train.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "eval.jsonl").write_text(json.dumps(rows[5]) + "\n")
    path = tmp_path / "run.yaml"
    path.write_text(
        "model: tiny:qwen2_5_vl\n"
        "data: {train: train.jsonl, eval: eval.jsonl, max_length: 200}\n"
        f"output: {tmp_path}/runs/first\n"
    )
    return path


def test_everything_is_counted_and_adds_up(command, run_yaml: Path, tmp_path: Path) -> None:
    done = command("check", run_yaml)
    assert done.code == 0
    *report, folder = done.out.splitlines()
    assert max(map(len, report)) <= 80
    assert folder == str(tmp_path / "runs/first.check")
    record = json.loads((tmp_path / "runs/first.check/check.json").read_text("utf-8"))
    assert record["samples"] == 27
    assert record["fates"] == {"kept": 22, "fitted": 1, "dropped": 1, "quarantined": 3}
    assert record["policies"] == {"shrink": 1, "drop": 1}
    assert {fault["code"]: fault["samples"] for fault in record["faults"]} == {
        "media.missing": 1,
        "role.unknown": 1,
        "json.broken": 1,
        "fit.dropped": 1,
    }
    assert record["duplicates"]["extra"] == 2
    assert record["duplicates"]["examples"][0][1].endswith("train.jsonl:21")
    assert record["eval"] == {"conversations": 1, "also_in_train": 1}
    ledger = (tmp_path / "runs/first.check/ledger.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["line"] for line in ledger] == list(range(1, 28))
    bad = (tmp_path / "runs/first.check/quarantine.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["line"] for line in bad] == [25, 26, 27]
    assert json.loads(bad[0])["content"]["image"] == "gone.png"
    for words in ("gone.png", "role unknown", "broken JSON", "data.max_length", "quarantined"):
        assert words in done.out, words


def test_strict_ends_with_one_and_stop_with_two(command, run_yaml: Path) -> None:
    assert command("check", run_yaml, "--strict").code == 1
    assert command("check", run_yaml, "--set", "data.on_bad=stop").code == 2


def test_json_alone_on_standard_output(command, run_yaml: Path, tmp_path: Path) -> None:
    done = command("check", run_yaml, "--json", "--output", tmp_path / "elsewhere")
    record = json.loads(done.out)
    assert record == json.loads((tmp_path / "elsewhere/check.json").read_text("utf-8"))


def test_training_does_what_check_said(command, run_yaml: Path, tmp_path: Path) -> None:
    said = json.loads(command("check", run_yaml, "--json").out)
    sets = ["training.max_steps=1", "training.gradient_accumulation=1", "verify.enabled=false"]
    done = command("train", run_yaml, *(word for key in sets for word in ("--set", key)))
    assert done.code == 0, done.err
    state = json.loads((tmp_path / "runs/first/run.json").read_text("utf-8"))
    assert state["data"]["fingerprint"] == said["fingerprint"]
    assert state["data"]["fates"] == {k: v for k, v in said["fates"].items() if v}
    one = (tmp_path / "runs/first/ledger.jsonl").read_bytes()
    assert one == (tmp_path / "runs/first.check/ledger.jsonl").read_bytes()


def test_a_source_that_is_not_there(command, run_yaml: Path, tmp_path: Path) -> None:
    done = command("check", run_yaml, "--set", "data.train=none.jsonl")
    assert done.code == 2
    assert "none.jsonl" in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "runs/first.check").exists()
