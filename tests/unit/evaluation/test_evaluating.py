"""Predictions measured, by hand: kinds, measures, labels, and how answers were read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sightline.errors import DataError
from sightline.evaluation.breakdown import labels_record, reading_record
from sightline.evaluation.evaluating import EvaluationSettings, evaluation_record, measure_all
from sightline.evaluation.metrics.kinds import kinds_of
from sightline.evaluation.metrics.measures import MEASURES, hits_by_label
from sightline.evaluation.metrics.points import Hits
from sightline.evaluation.prediction import Located, Prediction

BOX = (10.0, 10.0, 30.0, 30.0)
# Shares two thirds of the union with BOX.
NEAR = (10.0, 10.0, 30.0, 26.0)
FAR = (60.0, 60.0, 80.0, 80.0)


def _one(
    annotated: list[tuple[str, tuple[float, ...]]],
    predicted: list[tuple[str, tuple[float, ...]]],
    **changes: object,
) -> Prediction:
    made = Prediction(
        sample=0,
        turn=1,
        source="a.jsonl",
        file="a.jsonl",
        line=1,
        row=0,
        place="",
        prompt="Find all.",
        annotation="[...]",
        answer="[...]",
        num_tokens=9,
        is_cut=False,
        likelihood=0.5,
        media=({"kind": "image", "path": "a.png", "width": 60, "height": 80},),
        annotated=tuple(Located(label=label, numbers=box) for label, box in annotated),
        predicted=tuple(Located(label=label, numbers=box, score=0.5) for label, box in predicted),
        repairs=(),
        lost=(),
        is_readable=True,
    )
    return replace(made, **changes)


def _value(name: str, *predictions: Prediction, iou: float = 0.5) -> float | None:
    settings = EvaluationSettings(metrics=(name,), iou=iou)
    return measure_all(predictions, settings)[name]


def test_boxes_are_found_by_label_and_overlap() -> None:
    found = _one([("Cat", BOX), ("dog", FAR)], [("cat ", NEAR), ("cat", FAR), ("dog", BOX)])
    assert hits_by_label(found, 0.5) == {"cat": Hits(1, 1, 2), "dog": Hits(0, 1, 1)}
    assert _value("box_precision", found) == pytest.approx(1 / 3)
    assert _value("box_recall", found) == 0.5
    assert _value("box_recall", found, iou=0.81) == 0
    assert _value("box_iou", found) == pytest.approx(0.8 / 2)


def test_grounding_looks_at_the_first_box_whatever_it_is_called() -> None:
    right, wrong = _one([("cat", BOX)], [("dog", NEAR), ("cat", FAR)]), _one([("cat", BOX)], [])
    two = _one([("cat", BOX), ("cat", FAR)], [("cat", BOX)])
    assert _value("grounding", right, wrong) == 0.5
    assert _value("grounding", two) is None


def test_points_are_measured_on_the_diagonal_of_their_picture() -> None:
    """60 x 80 pixels: 100 across, 5 in reach."""
    near, off = (13.0, 14.0), (13.1, 14.0)
    assert _value("point_recall", _one([("a", (10.0, 10.0))], [("a", near)])) == 1
    assert _value("point_recall", _one([("a", (10.0, 10.0))], [("a", off)])) == 0
    assert _value("point_precision", _one([("a", BOX)], [("a", FAR), ("a", BOX)])) == 0.5


def test_average_precision_of_what_is_never_annotated_is_nothing() -> None:
    assert _value("map", _one([], [("cat", BOX)])) is None
    assert _value("map_50", _one([("cat", BOX)], [("cat", BOX)])) == pytest.approx(1)


def test_a_picture_with_nothing_in_it_is_of_boxes_where_others_are() -> None:
    empty = _one([], [("cat", FAR)], annotation="There is nothing.")
    full = _one([("cat", BOX)], [("cat", BOX)], line=2)
    talk = _one([], [], prompt="How many?", annotation="7", line=3)
    point = _one([("cat", (1.0, 2.0))], [], prompt="Where?", line=4)
    tale = _one([], [], prompt="Tell.", annotation="one two three four five six seven eight nine")
    word = _one([], [], prompt="Tell.", annotation="one")
    assert kinds_of([empty, full, talk, point, tale, word]) == [
        "boxes", "boxes", "number", "points", "long", "short",
    ]  # fmt: skip
    # The box where nothing is stands before the right one: a false alarm costs precision.
    surer = replace(empty, predicted=(replace(empty.predicted[0], score=0.9),))
    assert measure_all([surer, full], EvaluationSettings())["map"] == pytest.approx(0.5)


def test_answers_are_counted_by_how_they_were_read() -> None:
    rows = [
        _one([("cat", BOX)], [("cat", BOX)]),
        _one([("cat", BOX)], [("Cow", BOX)], repairs=("fenced", "single_quotes")),
        _one(
            [("cat", BOX)], [], repairs=("cut_off",), lost=("cut_off", "wrong_count"), is_cut=True
        ),
        _one([("cat", BOX)], [], is_readable=False),
    ]
    assert reading_record(rows) == {
        "num_answers": 4,
        "as_they_are": 1,
        "mended": 1,
        "partly_lost": 1,
        "unreadable": 1,
        "repairs": {"fenced": 1, "single_quotes": 1, "cut_off": 1},
        "lost": {"cut_off": 1, "wrong_count": 1},
        "cut_at_limit": 1,
        "unknown_labels": {"cow": 1},
    }


def test_labels_have_figures_of_their_own() -> None:
    rows = [_one([("cat", BOX), ("cat", FAR), ("dog", BOX)], [("cat", BOX), ("cow", FAR)])]
    cat, dog = labels_record(rows, None, 0.5)
    assert (cat["label"], cat["num_annotated"], cat["num_predicted"]) == ("cat", 2, 1)
    assert (cat["precision"], cat["recall"]) == (1, 0.5)
    assert cat["map_50"] == pytest.approx(51 / 101)
    assert (dog["precision"], dog["recall"], dog["map"]) == (None, 0, 0)


def test_the_interval_of_a_difference_is_of_pairs() -> None:
    """One model is better by one on every sample: that is certain, whatever is drawn."""
    after = [
        _one([], [], annotation="x", answer="x" if line % 2 else "y", line=line)
        for line in range(40)
    ]
    before = [replace(one, answer="y") for one in after]
    same = evaluation_record(after, after, EvaluationSettings(metrics=("exact_match",)))
    [found] = same["metrics"]
    assert found["low"] < 0.5 < found["high"]
    assert found["change"] == {"value": 0, "low": 0, "high": 0}
    [found] = evaluation_record(after, before, EvaluationSettings(metrics=("exact_match",)))[
        "metrics"
    ]
    assert found["change"]["low"] == pytest.approx(found["low"])
    assert found["before"]["value"] == 0


def test_other_annotations_are_refused() -> None:
    one = _one([], [], annotation="a")
    settings = EvaluationSettings()
    with pytest.raises(DataError, match="annotated with 'a' in the first, with 'b' in the second"):
        evaluation_record([one], [replace(one, annotation="b")], settings)
    boxes = _one([("cat", BOX)], [])
    with pytest.raises(DataError, match="1 boxes and points in the first, with '"):
        evaluation_record([boxes], [replace(boxes, annotated=())], settings)


def test_the_same_seed_gives_the_same_record() -> None:
    rows = [
        _one([("cat", BOX)], [("cat", BOX if line % 3 else FAR)], line=line) for line in range(9)
    ]
    first, again = (
        evaluation_record(rows, None, EvaluationSettings(resamples=50, seed=3)) for _ in range(2)
    )
    other = evaluation_record(rows, None, EvaluationSettings(resamples=50, seed=4))
    assert first == again
    assert first["metrics"] != other["metrics"]


def test_every_measure_is_taken_of_something_by_itself() -> None:
    assert [name for name, measure in MEASURES.items() if not measure.kinds] == []
