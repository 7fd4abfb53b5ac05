"""What an annotation is: boxes, points, a number, few words, or many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from sightline.evaluation.metrics.text import number_of
from sightline.evaluation.prediction import Prediction

Kind = Literal["boxes", "points", "number", "short", "long"]
_MOST_SHORT_WORDS = 8


def kinds_of(predictions: Sequence[Prediction]) -> list[Kind]:
    """The kind of every annotation.

    One without a box is still of boxes where the same question is answered with boxes elsewhere:
    a picture in which there is nothing.

    Args:
        predictions: All of them.
    """
    asked: dict[str, Kind] = {}
    for one in predictions:
        if (kind := _located_kind(one)) is not None:
            asked.setdefault(one.prompt, kind)
    return [_located_kind(one) or asked.get(one.prompt) or _said(one) for one in predictions]


def _located_kind(one: Prediction) -> Kind | None:
    if not one.annotated:
        return None
    return "boxes" if any(item.is_box for item in one.annotated) else "points"


def _said(one: Prediction) -> Kind:
    if number_of(one.annotation) is not None:
        return "number"
    is_short = len(one.annotation.split()) <= _MOST_SHORT_WORDS
    return "short" if is_short else "long"
