"""Answers to held-out data on the page, and that its figures are those of the evaluation."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import RunError
from sightline.evaluation.evaluating import EvaluationSettings, evaluation_record
from sightline.evaluation.metrics.measures import MEASURES
from sightline.evaluation.prediction import load_predictions
from sightline.report.held_out import view_held_out, view_measures
from sightline.report.overlaps import is_right, mean_overlap
from sightline.report.page import render_run
from sightline.report.run import load_run

_NAMES = ("cat", "Cat ", "dog", "")


def _box(label: str, *sides: float) -> dict[str, Any]:
    return {"label": label, "box": list(sides)}


def _random_boxes(draw: random.Random, num: int) -> list[dict[str, Any]]:
    made = []
    for _ in range(num):
        x, y = draw.uniform(0, 50), draw.uniform(0, 50)
        sides = (x, y, x + draw.uniform(1, 50), y + draw.uniform(1, 50))
        made.append(_box(draw.choice(_NAMES), *sides))
    return made


def test_overlaps_are_those_of_the_evaluation(tmp_path: Path) -> None:
    draw = random.Random(7)
    rows = []
    for _ in range(60):
        annotated = _random_boxes(draw, draw.randint(1, 4))
        predicted = [*annotated[: draw.randint(0, 2)], *_random_boxes(draw, draw.randint(0, 4))]
        rows.append(
            {"annotation": "[]", "answer": "[]", "annotated": annotated, "predicted": predicted}
        )
    path = tmp_path / "after.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    score = MEASURES["box_iou"].score
    assert score is not None
    for row, one in zip(rows, load_predictions(path), strict=True):
        part, whole = score(one, 0.5)
        assert mean_overlap(row["annotated"], row["predicted"]) == pytest.approx(part / whole)


def test_right_is_every_box_once() -> None:
    cat, dog = _box("cat", 0, 0, 10, 10), _box("dog", 20, 20, 30, 30)
    near = _box("cat", 0, 0, 10, 8)
    assert is_right([cat, dog], [dog, near])
    assert not is_right([cat], [near, near])  # one too many
    assert not is_right([cat, cat], [near, dog])  # another label
    assert not is_right([cat], [_box("cat", 0, 0, 10, 4)])  # too far off
    assert is_right([], [])


def test_points_are_no_boxes() -> None:
    assert mean_overlap([{"label": "cat", "point": [1, 2]}], []) is None


def test_the_worst_come_first_and_others_are_among_them(
    tmp_path: Path, maker: Any, whole_maker: Any
) -> None:
    run = maker.make_run(tmp_path / "run")
    whole_maker.add_evaluation(run, 60)
    records = load_run(run)
    view = view_held_out(records.answers, records.answers_before, root=run, limit=10)
    assert view is not None
    assert (len(view.samples), view.num_samples, view.num_left_out) == (10, 60, 50)
    scores = [sample.score for sample in view.samples]
    assert scores == sorted(scores)
    assert scores[0] < 0.5
    assert scores[-1] == 1
    assert [answer.title for answer in view.samples[0].answers] == [
        "After training",
        "Before, the base",
    ]


def test_a_run_without_answers_has_no_gallery(tmp_path: Path, maker: Any) -> None:
    records = load_run(maker.make_run(tmp_path / "run"))
    assert records.evaluation is None
    assert view_held_out(records.answers, (), root=tmp_path) is None


def test_the_page_shows_what_an_evaluation_wrote(
    tmp_path: Path, maker: Any, whole_maker: Any, read_page: Any
) -> None:
    run = maker.make_run(tmp_path / "run")
    whole_maker.add_evaluation(run, 6)
    folder = run / "evaluation"
    after, before = (load_predictions(folder / f"{name}.jsonl") for name in ("after", "before"))
    settings = EvaluationSettings(metrics=("box_recall", "box_iou"), resamples=20)
    record = evaluation_record(after, before, settings)
    made = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    # The records of these tests have the form of real ones.
    assert made.keys() - {"predictions", "against"} == record.keys()
    assert made["metrics"][0].keys() == record["metrics"][0].keys()
    assert made["reading"].keys() == record["reading"].keys()
    maker.rewrite(run / "evaluation.json", **record)
    page = read_page(render_run(run).read_text(encoding="utf-8"))
    recall = next(one for one in record["metrics"] if one["name"] == "box_recall")
    row = view_measures(record).rows[0]
    assert (row.title, row.after) == (recall["title"], f"{recall['value']:.3f}")
    assert f"{row.title} 6 {row.before} {row.before_span} {row.after} {row.after_span}" in page.text
    assert page.faults == []


def test_a_change_is_good_or_bad_only_beyond_its_interval(whole_maker: Any) -> None:
    record = whole_maker.evaluation_record()
    record["metrics"][0]["change"] = {"value": 0.2, "low": -0.1, "high": 0.4}
    record["metrics"][1]["change"] = {"value": -0.2, "low": -0.3, "high": -0.1}
    assert [row.kind for row in view_measures(record).rows] == ["", "bad"]


@pytest.mark.parametrize("name", ["evaluation.json", "proof.json", "evaluation/after.jsonl"])
def test_a_record_that_lacks_something_is_refused(
    tmp_path: Path, whole_maker: Any, name: str
) -> None:
    run = whole_maker.make_whole_run(tmp_path / "run")
    path = run / name
    lacking = {"evaluation.json": "metrics", "proof.json": "before"}.get(name, "predicted")
    rows = (
        [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        if "jsonl" in name
        else [json.loads(path.read_text("utf-8"))]
    )
    del rows[-1][lacking]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    line = ":6" if "jsonl" in name else ""
    with pytest.raises(RunError, match=rf"{name}{line}: .* broken: it has no '{lacking}'"):
        load_run(run)
