"""Mean average precision beside pycocotools, the reference implementation, on random boxes."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sightline.evaluation.metrics.matching import Box, Scored, matched
from sightline.evaluation.metrics.precision import (
    Curves,
    Picture,
    annotated_labels,
    average_precision,
    coco_records,
)

LABELS = ("circle", "square", "star")
TOLERANCE = 1e-12


def _box(rng: np.random.Generator, side: int = 200) -> Box:
    x, y = rng.integers(0, side, 2)
    width, height = rng.integers(1, 140, 2)
    return float(x), float(y), float(x + width), float(y + height)


def _near(rng: np.random.Generator, box: Box) -> Box:
    x1, y1, x2, y2 = (
        side + int(move) for side, move in zip(box, rng.integers(-6, 7, 4), strict=True)
    )
    return x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)


def _pictures(seed: int, *, ties: bool, num: int = 30, missing: str = "") -> list[Picture]:
    """Pictures with boxes near annotated ones, elsewhere, and twice; some have none of either."""
    rng = np.random.default_rng(seed)
    pictures = []
    for _ in range(num):
        wanted: dict[str, list[Box]] = {}
        given: dict[str, list[Scored]] = {}
        for label in LABELS:
            boxes = [_box(rng) for _ in range(rng.integers(0, 4))]
            wanted[label] = [] if label == missing else boxes
            score = (lambda: float(rng.integers(1, 4)) / 4) if ties else (lambda: rng.random())
            found = [_near(rng, box) for box in boxes if rng.random() < 0.7]
            found += found[: int(rng.integers(0, 2))]
            found += [_box(rng) for _ in range(rng.integers(0, 3))]
            given[label] = [Scored(box, score()) for box in found]
        empty = rng.random()
        pictures.append(
            Picture(
                wanted={} if empty < 0.1 else wanted,
                given={} if 0.1 <= empty < 0.2 else given,
            )
        )
    return pictures


def _reference(pictures: list[Picture]) -> Any:
    dataset, detections = coco_records(pictures, annotated_labels(pictures))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = dataset
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(detections), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


CASES = {
    "scores of their own": {"ties": False},
    "many scores alike": {"ties": True},
    "a label that nothing is annotated of": {"ties": True, "missing": "star"},
    "few pictures": {"ties": False, "num": 4},
    "many pictures": {"ties": True, "num": 150},
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("case", CASES)
def test_it_equals_the_reference_implementation(case: str, seed: int) -> None:
    pictures = _pictures(seed + 7, **CASES[case])
    found, stats = average_precision(pictures), _reference(pictures).stats
    names = ("mean", "at_50", "at_75", "small", "medium", "large")
    wanted = {
        name: None if value == -1 else value for name, value in zip(names, stats, strict=False)
    }
    assert {name: getattr(found, name) for name in names} == {
        name: None if value is None else pytest.approx(value, abs=TOLERANCE)
        for name, value in wanted.items()
    }


def test_labels_equal_the_reference_implementation_one_by_one() -> None:
    pictures = _pictures(3, ties=True)
    precision = _reference(pictures).eval["precision"][..., 0, -1]
    found = average_precision(pictures)
    for k, label in enumerate(annotated_labels(pictures)):
        assert found.by_label[label] == pytest.approx(precision[..., k].mean(), abs=TOLERANCE)
        assert found.by_label_50[label] == pytest.approx(precision[0, :, k].mean(), abs=TOLERANCE)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ties", [False, True])
def test_the_sum_over_curves_is_the_figure(seed: int, ties: bool) -> None:
    """What intervals are computed from, where every picture is there once."""
    pictures = _pictures(seed, ties=ties)
    found = average_precision(pictures)
    curves, once = Curves(pictures), np.ones(len(pictures))
    assert curves.mean(once) == pytest.approx(found.mean, abs=TOLERANCE)
    assert curves.mean(once, (0.5,)) == pytest.approx(found.at_50, abs=TOLERANCE)
    assert curves.mean(once, (0.75,)) == pytest.approx(found.at_75, abs=TOLERANCE)


@pytest.mark.parametrize("seed", range(3))
def test_pictures_drawn_anew_count_as_often_as_they_are_drawn(seed: int) -> None:
    """The reference implementation, on a data set that has every picture so often."""
    pictures = _pictures(seed, ties=False, num=12)
    weights = np.bincount(np.random.default_rng(seed).integers(0, 12, 12), minlength=12)
    drawn = [
        picture for picture, times in zip(pictures, weights, strict=True) for _ in range(times)
    ]
    wanted = _reference(drawn).stats[0]
    assert Curves(pictures).mean(weights) == pytest.approx(wanted, abs=TOLERANCE)


def test_nothing_predicted_is_zero_and_nothing_annotated_is_nothing() -> None:
    box = (0.0, 0.0, 10.0, 10.0)
    nothing_given = [Picture(wanted={"circle": [box]}, given={})]
    assert average_precision(nothing_given).mean == 0.0
    assert Curves(nothing_given).mean(np.ones(1)) == 0.0
    nothing_wanted = [Picture(wanted={}, given={"circle": [Scored(box, 1.0)]})]
    assert average_precision(nothing_wanted).mean is None
    assert Curves(nothing_wanted).mean(np.ones(1)) is None


def test_a_fault_in_matching_is_seen() -> None:
    """One annotated box is found once: a second box on it is a false one."""
    box = (0.0, 0.0, 10.0, 10.0)
    twice = [Scored(box, 0.9), Scored(box, 0.8)]
    assert matched(twice, [box], (0.5,)) == [[True, False]]
    [one] = [
        Picture(wanted={"a": [box]}, given={"a": [Scored(box, 0.9), Scored((50, 50, 60, 60), 1)]})
    ]
    assert _reference([one]).stats[0] == pytest.approx(0.5)
    assert average_precision([one]).mean == pytest.approx(0.5)
