"""``sightline check --probe``: the proof of a plan alone."""

from __future__ import annotations

import json
from pathlib import Path

import yaml


def _configuration(folder: Path, data: Path, **tuning: object) -> Path:
    path = folder / "run.yaml"
    settings = {
        "model": "tiny:qwen3_vl",
        "data": {"train": str(data)},
        "tuning": tuning,
        "output": str(folder / "run"),
    }
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def _words(folder: Path) -> Path:
    turns = [{"role": "user", "content": "Two?"}, {"role": "assistant", "content": "red, blue"}]
    path = folder / "words.jsonl"
    path.write_text(json.dumps({"messages": turns}) + "\n", encoding="utf-8")
    return path


def test_a_plan_that_is_followed(command, shapes_folder, tmp_path) -> None:
    stages = [{"until": "50%", "language": "freeze"}, {}]
    config = _configuration(tmp_path, shapes_folder / "train.jsonl", stages=stages)
    outcome = command("check", "--probe", config)
    assert outcome.code == 0, outcome.err
    assert "proven" in outcome.out
    assert "gradient checkpointing: non-reentrant" in outcome.out
    assert all(len(line) <= 80 for line in outcome.out.splitlines())
    record = json.loads((tmp_path / "run.check" / "proof.json").read_text(encoding="utf-8"))
    assert record["before"]["faults"] == []
    assert {row["tower"] for row in record["before"]["rows"]} == {"projector", "language"}
    # A picture and a video: the two kinds of media that the data have.
    assert (record["before"]["num_images"], record["before"]["num_videos"]) == (1, 1)
    # Only this: no run, no ledger.
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "run.check" / "ledger.jsonl").exists()


def test_a_plan_that_the_data_cannot_follow(command, tmp_path) -> None:
    outcome = command("check", "--probe", _configuration(tmp_path, _words(tmp_path)))
    assert outcome.code == 1
    assert "NOT PROVEN: 12 tensors not as the plan says" in outcome.out
    assert "No sample that was looked at has a picture or a video" in outcome.out
    assert "and 7 more" in outcome.out


def test_the_record_as_json(command, tmp_path) -> None:
    config = _configuration(tmp_path, _words(tmp_path), projector="freeze")
    outcome = command("check", "--probe", "--json", config)
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["num_images"] == 0


def test_a_plan_that_is_wrong(command, shapes_folder, tmp_path) -> None:
    parts = [{"blocks": "40-", "mode": "freeze"}]
    config = _configuration(
        tmp_path, shapes_folder / "train.jsonl", language={"mode": "lora", "parts": parts}
    )
    outcome = command("check", "--probe", config)
    assert outcome.code == 2
    assert "tuning.language.parts[0]: blocks 40- matches nothing" in outcome.err
    assert "Traceback" not in outcome.err
