"""Every measure by its name: what it is of, and what one prediction adds to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, get_args

from sightline.config import Measure
from sightline.evaluation.metrics import text
from sightline.evaluation.metrics.kinds import Kind
from sightline.evaluation.metrics.matching import Box, Scored, best_overlaps, by_score, iou, matched
from sightline.evaluation.metrics.points import Hits, Numbers, middle, point_hits
from sightline.evaluation.metrics.precision import AP_LIBRARY, THRESHOLDS, Picture
from sightline.evaluation.prediction import Located, Prediction


class Share(NamedTuple):
    """What one prediction adds to a measure: the measure is the sum of parts over that of wholes.

    Attributes:
        part: What is right.
        whole: What could be.
    """

    part: float
    whole: float


Score = Callable[[Prediction, float], Share]


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasureRecord:
    """A measure.

    Attributes:
        name: As it is asked for.
        title: As tables show it.
        kinds: Kinds of annotations that it is taken of by itself.
        score: What a prediction adds at a least IoU; None where it is a mean average precision.
        thresholds: IoUs of a mean average precision.
        needs: Module of another library that computes it; empty where none does.
    """

    name: Measure
    title: str
    kinds: tuple[Kind, ...]
    score: Score | None = None
    thresholds: tuple[float, ...] = ()
    needs: str = ""


def folded(label: str) -> str:
    """A label as labels are compared: without case, and white space at its ends.

    >>> folded(" Red Circle ")
    'red circle'
    """
    return label.strip().casefold()


def picture_of(one: Prediction) -> Picture:
    """The boxes of a prediction by label."""
    wanted: dict[str, list[Box]] = {}
    given: dict[str, list[Scored]] = {}
    for item in one.annotated:
        if item.is_box:
            wanted.setdefault(folded(item.label), []).append(_box(item))
    for item in one.predicted:
        if item.is_box:
            given.setdefault(folded(item.label), []).append(Scored(_box(item), item.score))
    return Picture(wanted=wanted, given=given)


def hits_by_label(one: Prediction, least: float) -> dict[str, Hits]:
    """Boxes that are found, annotated and predicted, label by label.

    Args:
        one: A prediction.
        least: Least IoU of a box that is found.
    """
    picture = picture_of(one)
    found = {}
    for label in dict.fromkeys([*picture.wanted, *picture.given]):
        given = picture.given.get(label, [])
        wanted = picture.wanted.get(label, [])
        [hits] = matched([given[place] for place in by_score(given)], wanted, (least,))
        found[label] = Hits(sum(hits), len(wanted), len(given))
    return found


def _box(item: Located) -> Box:
    x1, y1, x2, y2 = item.numbers
    return x1, y1, x2, y2


def _box_precision(one: Prediction, least: float) -> Share:
    hits = hits_by_label(one, least).values()
    return Share(sum(hit.num_hits for hit in hits), sum(hit.num_given for hit in hits))


def _box_recall(one: Prediction, least: float) -> Share:
    hits = hits_by_label(one, least).values()
    return Share(sum(hit.num_hits for hit in hits), sum(hit.num_wanted for hit in hits))


def _box_iou(one: Prediction, least: float) -> Share:
    picture = picture_of(one)
    overlaps = [
        overlap
        for label, wanted in picture.wanted.items()
        for overlap in best_overlaps([box for box, _ in picture.given.get(label, [])], wanted)
    ]
    return Share(sum(overlaps), len(overlaps))


def _grounding(one: Prediction, least: float) -> Share:
    """The first box is the annotated one, whatever it is called; of one annotated box alone."""
    wanted = [item for item in one.annotated if item.is_box]
    given = [item for item in one.predicted if item.is_box]
    if len(wanted) != 1:
        return Share(0, 0)
    found = bool(given) and iou(_box(given[0]), _box(wanted[0])) >= least
    return Share(float(found), 1)


def _point_precision(one: Prediction, least: float) -> Share:
    hits = _point_hits(one)
    return Share(hits.num_hits, hits.num_given)


def _point_recall(one: Prediction, least: float) -> Share:
    hits = _point_hits(one)
    return Share(hits.num_hits, hits.num_wanted)


def _point_hits(one: Prediction) -> Hits:
    given: list[tuple[str, Numbers]] = [
        (folded(item.label), middle(item.numbers)) for item in one.predicted
    ]
    wanted = [(folded(item.label), item.numbers) for item in one.annotated]
    return point_hits(given, wanted, _diagonal(one))


def _diagonal(one: Prediction) -> float:
    """Of its picture, pixels; 0 where no picture is known, and only an exact point is near."""
    sizes = [
        (float(medium["width"]), float(medium["height"]))
        for medium in one.media
        if medium.get("kind") == "image" and {"width", "height"} <= medium.keys()
    ]
    return math.hypot(*sizes[0]) if sizes else 0.0


def _of_text(score: Callable[[str, str], float]) -> Score:
    return lambda one, least: Share(score(one.answer, one.annotation), 1)


_ALL: tuple[MeasureRecord, ...] = (
    MeasureRecord(
        name="map",
        title="mAP 0.50 to 0.95",
        kinds=("boxes",),
        thresholds=THRESHOLDS,
        needs=AP_LIBRARY,
    ),
    MeasureRecord(
        name="map_50", title="mAP 0.50", kinds=("boxes",), thresholds=(0.5,), needs=AP_LIBRARY
    ),
    MeasureRecord(
        name="map_75", title="mAP 0.75", kinds=("boxes",), thresholds=(0.75,), needs=AP_LIBRARY
    ),
    MeasureRecord(
        name="box_precision", title="boxes, precision", kinds=("boxes",), score=_box_precision
    ),
    MeasureRecord(name="box_recall", title="boxes, recall", kinds=("boxes",), score=_box_recall),
    MeasureRecord(name="box_iou", title="boxes, mean IoU", kinds=("boxes",), score=_box_iou),
    MeasureRecord(name="grounding", title="first box right", kinds=("boxes",), score=_grounding),
    MeasureRecord(
        name="point_precision", title="points, precision", kinds=("points",), score=_point_precision
    ),
    MeasureRecord(
        name="point_recall", title="points, recall", kinds=("points",), score=_point_recall
    ),
    MeasureRecord(
        name="exact_match",
        title="exact match",
        kinds=("number", "short"),
        score=_of_text(text.exact_match),
    ),
    MeasureRecord(
        name="anls",
        title="ANLS",
        kinds=("short",),
        score=_of_text(text.anls),
        needs=text.ANLS_LIBRARY,
    ),
    MeasureRecord(
        name="relaxed_accuracy",
        title="relaxed accuracy",
        kinds=("number",),
        score=_of_text(text.relaxed_accuracy),
    ),
    MeasureRecord(
        name="rouge_l",
        title="ROUGE-L",
        kinds=("long",),
        score=_of_text(text.rouge_l),
        needs=text.ROUGE_LIBRARY,
    ),
)
MEASURES: Mapping[str, MeasureRecord] = {one.name: one for one in _ALL}
"""Every measure by its name, in the order of tables."""

assert tuple(MEASURES) == get_args(Measure), "the configuration names the same"


def refuse_without_library(wanted: Sequence[str]) -> None:
    """Refuse what cannot be computed here, before answers are made for it.

    Args:
        wanted: Names of measures; none: any may be.

    Raises:
        ConfigError: A library is not installed.
    """
    for measure in MEASURES.values():
        if measure.needs and (not wanted or measure.name in wanted):
            text.kept(measure.needs)


def chosen_measures(
    predictions: Sequence[Prediction], kinds: Sequence[Kind], wanted: Sequence[str]
) -> list[tuple[MeasureRecord, list[int]]]:
    """Measures with the predictions that they are taken of.

    Args:
        predictions: All of them.
        kinds: The kind of every annotation.
        wanted: Names of measures, each taken of everything; none: those that fit the annotations,
            each of its own kinds.
    """
    if wanted:
        every = list(range(len(predictions)))
        return [(MEASURES[name], every) for name in MEASURES if name in wanted]
    chosen = []
    for measure in MEASURES.values():
        rows = [place for place, kind in enumerate(kinds) if kind in measure.kinds]
        if measure.name == "grounding" and not all(
            len(predictions[place].annotated) == 1 for place in rows
        ):
            continue
        if rows:
            chosen.append((measure, rows))
    return chosen
