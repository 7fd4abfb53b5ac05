"""Mean average precision as COCO counts it, and again for samples that are drawn anew.

The figure is faster-coco-eval's. An interval needs it a thousand times over, each picture as often
as it was drawn: what is matched within a picture stays, and only the curves are summed again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sightline.evaluation.metrics.matching import Box, Scored, by_score, matched
from sightline.evaluation.metrics.text import kept

THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
_RECALLS = np.linspace(0.0, 1.0, 101)
_MAX_DETECTIONS = 100
# A picture's size is asked for by the library, and has no effect on boxes.
_SIDE = 1
AP_LIBRARY = "faster_coco_eval"
"""What computes it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """The boxes of one picture.

    Attributes:
        wanted: Annotated boxes by label.
        given: Predicted boxes by label.
    """

    wanted: Mapping[str, Sequence[Box]]
    given: Mapping[str, Sequence[Scored]]


@dataclass(frozen=True, kw_only=True, slots=True)
class AveragePrecision:
    """Average precision, each from 0 to 1; None where nothing is annotated that it counts.

    Attributes:
        mean: Over IoU 0.50 to 0.95 in steps of 0.05, and over labels.
        at_50: At IoU 0.50, over labels.
        at_75: At IoU 0.75, over labels.
        small: As ``mean``, annotated boxes under 32 x 32 pixels.
        medium: As ``mean``, up to 96 x 96 pixels.
        large: As ``mean``, beyond.
        by_label: As ``mean``, label by label.
        by_label_50: As ``at_50``, label by label.
    """

    mean: float | None
    at_50: float | None
    at_75: float | None
    small: float | None
    medium: float | None
    large: float | None
    by_label: dict[str, float]
    by_label_50: dict[str, float]


def average_precision(pictures: Sequence[Picture]) -> AveragePrecision:
    """Mean average precision of boxes, by faster-coco-eval.

    Args:
        pictures: Every picture once, also where nothing is annotated or predicted in it. Of a
            label that no picture has an annotation of, COCO counts nothing.

    Raises:
        ConfigError: faster-coco-eval is not installed.

    Reference:
        pycocotools' ``COCOeval``, checked in tests/parity/test_average_precision.py.
    """
    labels = annotated_labels(pictures)
    if not labels:
        return AveragePrecision(
            mean=None,
            at_50=None,
            at_75=None,
            small=None,
            medium=None,
            large=None,
            by_label={},
            by_label_50={},
        )
    # (thresholds, recalls, labels, areas, limits on detections); -1 where nothing is annotated.
    precision = _evaluated(pictures, labels)
    whole = precision[..., 0, -1]
    return AveragePrecision(
        mean=_mean(whole),
        at_50=_mean(whole[0]),
        at_75=_mean(whole[THRESHOLDS.index(0.75)]),
        small=_mean(precision[..., 1, -1]),
        medium=_mean(precision[..., 2, -1]),
        large=_mean(precision[..., 3, -1]),
        by_label=_by_label(labels, whole),
        by_label_50=_by_label(labels, whole[:1]),
    )


def annotated_labels(pictures: Sequence[Picture]) -> list[str]:
    """Labels of annotated boxes, sorted."""
    return sorted({label for one in pictures for label, boxes in one.wanted.items() if boxes})


class Curves:
    """What average precision is summed from, picture by picture.

    Args:
        pictures: As of `average_precision`.
    """

    def __init__(self, pictures: Sequence[Picture]) -> None:
        self._labels = [_Curve(pictures, label) for label in annotated_labels(pictures)]

    def mean(self, weights: np.ndarray, thresholds: Sequence[float] = THRESHOLDS) -> float | None:
        """Mean average precision where every picture is there so often.

        Args:
            weights: (num_pictures,) How often, 0 or more.
            thresholds: Some of `THRESHOLDS`.

        Returns:
            None where no annotated box is left.
        """
        rows = [THRESHOLDS.index(threshold) for threshold in thresholds]
        found = [curve.precision(weights, rows) for curve in self._labels]
        known = [one for one in found if one is not None]
        return float(np.mean(known)) if known else None


class _Curve:
    """The predicted boxes of one label over all pictures, the surest first."""

    def __init__(self, pictures: Sequence[Picture], label: str) -> None:
        scores: list[float] = []
        of_picture: list[int] = []
        hits: list[list[list[bool]]] = []
        for number, picture in enumerate(pictures):
            given, wanted = picture.given.get(label, ()), picture.wanted.get(label, ())
            order = by_score(given)[:_MAX_DETECTIONS]
            surest = [given[place] for place in order]
            scores += [one.score for one in surest]
            of_picture += [number] * len(surest)
            hits.append(matched(surest, wanted, THRESHOLDS))
        order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
        self._pictures = np.asarray(of_picture, dtype=np.int64)[order]
        columns = [np.asarray(row, dtype=bool).reshape(len(THRESHOLDS), -1) for row in hits]
        self._hits = np.concatenate(columns, axis=1)[:, order]
        self._wanted = np.asarray([len(one.wanted.get(label, ())) for one in pictures])

    def precision(self, weights: np.ndarray, rows: Sequence[int]) -> float | None:
        num_wanted = float(weights @ self._wanted)
        if num_wanted == 0:
            return None
        times = weights[self._pictures]
        return float(np.mean([self._at(row, times, num_wanted) for row in rows]))

    def _at(self, row: int, times: np.ndarray, num_wanted: float) -> float:
        """Mean precision over 101 recalls, at one threshold."""
        hits = np.cumsum(np.where(self._hits[row], times, 0))
        misses = np.cumsum(np.where(self._hits[row], 0, times))
        precision = hits / (hits + misses + np.spacing(1))
        # Precision at a recall is the best at that recall or a higher one.
        best = np.maximum.accumulate(precision[::-1])[::-1]
        places = np.searchsorted(hits / num_wanted, _RECALLS, side="left")
        reached = places < len(best)
        return float(best[places[reached]].sum() / len(_RECALLS))


def _evaluated(pictures: Sequence[Picture], labels: Sequence[str]) -> np.ndarray:
    library = kept(AP_LIBRARY)
    wanted, given = coco_records(pictures, labels)
    truth = library.COCO(wanted)
    # A list without detections is refused by the library; the table stays empty then.
    found = truth.loadRes(given) if given else library.COCO({**wanted, "annotations": []})
    evaluation = library.COCOeval_faster(truth, found, "bbox", print_function=_say_nothing)
    evaluation.evaluate()
    evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"])


def coco_records(
    pictures: Sequence[Picture], labels: Sequence[str]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The boxes as COCO's data set and its list of detections.

    Args:
        pictures: As of `average_precision`.
        labels: Labels that are counted.
    """
    numbers = {label: number for number, label in enumerate(labels, start=1)}
    annotations: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    for image, picture in enumerate(pictures, start=1):
        for label, number in numbers.items():
            for box in picture.wanted.get(label, ()):
                corner = _cornered(box)
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image,
                        "category_id": number,
                        "bbox": corner,
                        "area": corner[2] * corner[3],
                        "iscrowd": 0,
                    }
                )
            detections += [
                {
                    "image_id": image,
                    "category_id": number,
                    "bbox": _cornered(one.box),
                    "score": one.score,
                }
                for one in picture.given.get(label, ())
            ]
    dataset = {
        "info": {},
        "images": [
            {"id": image, "width": _SIDE, "height": _SIDE} for image in range(1, len(pictures) + 1)
        ],
        "annotations": annotations,
        "categories": [{"id": number, "name": label} for label, number in numbers.items()],
    }
    return dataset, detections


def _cornered(box: Box) -> list[float]:
    x1, y1, x2, y2 = box
    return [x1, y1, x2 - x1, y2 - y1]


def _mean(precision: np.ndarray) -> float | None:
    counted = precision[precision > -1]
    return float(counted.mean()) if counted.size else None


def _by_label(labels: Sequence[str], precision: np.ndarray) -> dict[str, float]:
    found = {label: _mean(precision[..., k]) for k, label in enumerate(labels)}
    return {label: value for label, value in found.items() if value is not None}


def _say_nothing(*_: object) -> None:
    """The library prints its progress."""
