"""What the live page is told: state in words, progress, figures, and only what is new."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sightline.records import append_jsonl, claimed, write_text
from sightline.report.moment import NUM_NEW_LINES, Cursor, FollowedRun


@pytest.fixture
def run(tmp_path: Path, maker: Any) -> Iterator[Path]:
    """A run that trains, at step 50 of 60."""
    directory = maker.make_run(tmp_path / "run")
    for name in ("certificate.json", "predictions.json"):
        (directory / name).unlink()
    maker.rewrite(directory / "run.json", state="training", finished=None, seconds=None)
    maker.rewrite(directory / "plan.json", schedule={"num_steps": 60})
    with claimed(directory, print):
        yield directory


def _cursor(moment: dict[str, Any]) -> Cursor:
    return Cursor(moment["curves"]["generation"], moment["curves"]["line"])


def _alarm(step: int, name: str = "loss.not_falling") -> dict[str, Any]:
    return {"id": name, "step": step, "seen": "it is seen", "cause": "a cause", "remedy": "mend it"}


def test_a_run_that_is_not_there_is_waited_for(tmp_path: Path) -> None:
    moment = FollowedRun(tmp_path / "later").moment()
    assert moment["state"]["kind"] == "waiting"
    assert str(tmp_path / "later") in moment["state"]["detail"]
    assert moment["age_seconds"] is None
    assert moment["curves"]["points"] == {}


def test_a_run_that_begins_is_seen(tmp_path: Path, run: Path) -> None:
    later = tmp_path / "later"
    followed = FollowedRun(later)
    followed.moment()
    run.rename(later)
    moment = followed.moment()
    assert moment["state"]["title"] == "Training: step 50 of 60"


def test_progress_and_time_left_follow_the_pace(run: Path) -> None:
    now = (run / "metrics.jsonl").stat().st_mtime
    os.utime(run / "metrics.jsonl", (now + 100, now + 100))
    progress = FollowedRun(run, clock=lambda: now + 100.2).moment()["progress"]
    assert progress["step"] == 50
    assert progress["share"] == pytest.approx(50 / 60)
    # 0.05 s a step, ten steps to go, a fifth of a second since the last line.
    assert progress["seconds_left"] == pytest.approx(0.3, abs=0.01)


def test_only_what_is_new_is_told(run: Path) -> None:
    followed = FollowedRun(run)
    first = followed.moment()
    assert first["curves"]["is_whole"]
    assert len(first["curves"]["points"]["loss"]) == 50
    append_jsonl(run / "metrics.jsonl", {"step": 51, "loss": 0.25, "seconds": 2.55})
    second = followed.moment(_cursor(first))
    assert not second["curves"]["is_whole"]
    assert second["curves"]["points"] == {"loss": ((51.0, 0.25),)}
    assert second["progress"]["step"] == 51
    assert followed.moment(_cursor(second))["curves"]["points"] == {}


def test_who_missed_much_or_knows_another_run_gets_all(run: Path) -> None:
    followed = FollowedRun(run)
    seen = _cursor(followed.moment())
    for cursor in (seen._replace(generation=seen.generation + 1), seen._replace(line=10**6)):
        assert followed.moment(cursor)["curves"]["is_whole"]
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
        for step in range(51, 52 + NUM_NEW_LINES):
            file.write(json.dumps({"step": step, "loss": 1.0}) + "\n")
    assert followed.moment(seen)["curves"]["is_whole"]


def test_a_run_that_is_resumed_takes_its_steps_back(run: Path) -> None:
    followed = FollowedRun(run)
    seen = _cursor(followed.moment())
    append_jsonl(run / "alarms.jsonl", _alarm(45))
    assert len(followed.moment()["alarms"]) == 1
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    write_text(run / "metrics.jsonl", "".join(lines[:20]))
    write_text(run / "alarms.jsonl", "")
    moment = followed.moment(seen)
    assert moment["curves"]["is_whole"]
    assert len(moment["curves"]["points"]["loss"]) < 20
    assert moment["alarms"] == []
    assert moment["progress"]["step"] < 20


def test_the_version_changes_with_every_record_and_not_by_itself(run: Path) -> None:
    followed = FollowedRun(run)
    versions = [followed.version(), followed.version()]
    assert versions[0] == versions[1]
    append_jsonl(run / "metrics.jsonl", {"step": 51, "loss": 0.25})
    versions.append(followed.version())
    append_jsonl(run / "alarms.jsonl", _alarm(51))
    versions.append(followed.version())
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "step-50").mkdir()
    versions.append(followed.version())
    assert len(set(versions)) == 4


def test_a_run_that_went_silent_says_for_how_long(run: Path) -> None:
    written = max(one.stat().st_mtime for one in run.iterdir())
    moment = FollowedRun(run, clock=lambda: written + 400).moment()
    assert moment["age_seconds"] == pytest.approx(400, abs=1)
    assert moment["quiet_after_seconds"] == 30
    assert f"sightline resume {run}" in moment["state"]["quiet"]
    # A clock that is behind that of the disk is no reason for a negative age.
    assert FollowedRun(run, clock=lambda: written - 50).moment()["age_seconds"] == 0


def test_a_run_whose_process_is_gone_has_ended(run: Path) -> None:
    followed = FollowedRun(run)
    going = followed.moment()
    assert going["state"]["kind"] == "going"
    # As where it is killed: nothing of the run is written any more.
    (run / ".claim").unlink()
    assert followed.version() != going["version"]
    moment = followed.moment()
    assert moment["state"]["kind"] == "stopped"
    assert moment["state"]["title"] == "Ended after step 50"
    assert f"sightline resume {run}" in moment["state"]["detail"]
    assert moment["quiet_after_seconds"] is None
    assert moment["progress"]["seconds_left"] is None
    (run / "metrics.jsonl").unlink()
    assert followed.moment()["state"]["title"] == "Ended before its first step"


def test_a_slow_run_is_not_called_silent_early(run: Path) -> None:
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
        for step in range(51, 60):
            line = {"step": step, "loss": 1.0, "seconds": 100.0 * step}
            file.write(json.dumps(line) + "\n")
    followed = FollowedRun(run)
    assert followed.moment()["quiet_after_seconds"] >= 200


def test_states_are_told_in_words(run: Path, maker: Any) -> None:
    def state(**values: Any) -> dict[str, Any]:
        maker.rewrite(run / "run.json", **values)
        return FollowedRun(run).moment()["state"]

    assert state(state="stopped", steps=50)["title"] == "Stopped after step 50"
    assert f"sightline resume {run}" in state(state="stopped")["detail"]
    assert state(state="trained")["title"] == "Trained and exported; no verdict yet"
    config = run / "config.yaml"
    config.write_text(config.read_text("utf-8") + "verify:\n  enabled: false\n", encoding="utf-8")
    assert state(state="trained")["title"] == "Trained and exported; not verified"
    (run / "metrics.jsonl").unlink()
    assert state(state="training")["title"] == "Preparing"


@pytest.mark.parametrize("fails", [False, True])
def test_a_verified_run_ends_in_its_verdict(tmp_path: Path, maker: Any, fails: bool) -> None:
    run = maker.make_run(tmp_path / "run", fails=fails)
    moment = FollowedRun(run).moment()
    assert moment["state"]["kind"] == ("fails" if fails else "holds")
    assert [check["id"] for check in moment["state"]["failing"]] == (
        ["logits.cache_equals_whole"] if fails else []
    )
    assert len(moment["certificate"]["checks"]) == 7
    assert moment["quiet_after_seconds"] is None


def test_a_value_that_is_not_finite_is_the_reason(run: Path) -> None:
    followed = FollowedRun(run)
    append_jsonl(run / "alarms.jsonl", _alarm(51, "values.non_finite"))
    state = followed.moment()["state"]
    assert state["kind"] == "fails"
    assert state["title"] == "Failed at step 51: a value is not finite"
    assert "mend it" in state["detail"]
    # It was resumed and is past that step.
    append_jsonl(run / "metrics.jsonl", {"step": 52, "loss": 0.25})
    assert followed.moment()["state"]["kind"] == "going"


def test_a_plan_that_is_disproved_is_the_reason(run: Path) -> None:
    proof = {"before": {"faults": []}, "stages": [], "end": {"step": 60, "unmoved": ["a.weight"]}}
    (run / "proof.json").write_text(json.dumps(proof), encoding="utf-8")
    state = FollowedRun(run).moment()["state"]
    assert state["title"] == "Failed at step 60: what should train did not move"
    assert "a.weight" in state["detail"]
    proof["before"] = {"faults": [{"name": "b.weight"}], "cause": "It is frozen."}
    (run / "proof.json").write_text(json.dumps(proof), encoding="utf-8")
    state = FollowedRun(run).moment()["state"]
    assert state["title"].startswith("Failed before its first step")
    assert "b.weight. It is frozen." in state["detail"]


def test_measures_of_an_evaluation_replace_those_of_the_training(
    run: Path, whole_maker: Any
) -> None:
    append_jsonl(run / "metrics.jsonl", {"step": 50, "eval_loss": 1.0, "eval_box_iou": 0.5})
    followed = FollowedRun(run)
    assert followed.moment()["measures"] == [{"title": "box IoU", "value": 0.5, "step": 50}]
    one = {"title": "IoU", "value": 0.75, "low": 0.5, "high": 0.875, "before": {"value": 0.25}}
    record = whole_maker.evaluation_record() | {"metrics": [one]}
    (run / "evaluation.json").write_text(json.dumps(record), encoding="utf-8")
    assert followed.moment()["measures"] == [one | {"before": 0.25}]
