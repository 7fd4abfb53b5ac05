"""Predictions measured: all together, by source and by label, before and after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sightline.errors import DataError
from sightline.evaluation.bootstrap import (
    CONFIDENCE,
    Interval,
    Value,
    difference,
    draws,
    interval,
    units_of,
)
from sightline.evaluation.breakdown import box_sizes, labels_record, reading_record
from sightline.evaluation.metrics.kinds import kinds_of
from sightline.evaluation.metrics.measures import (
    MeasureRecord,
    chosen_measures,
    picture_of,
)
from sightline.evaluation.metrics.precision import Curves, average_precision
from sightline.evaluation.prediction import Prediction

OnDraw = Callable[[], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationSettings:
    """How predictions are measured.

    Attributes:
        metrics: Names of measures; none: those that fit the annotations.
        iou: Least overlap at which a box counts as found, but for ``map`` and its kind.
        resamples: Draws for the intervals; 0 makes none.
        seed: Of the draws.
    """

    metrics: tuple[str, ...] = ()
    iou: float = 0.5
    resamples: int = 1000
    seed: int = 0


def measure_all(
    predictions: Sequence[Prediction], settings: EvaluationSettings
) -> dict[str, float | None]:
    """Measures by name, without intervals; None where there is nothing that one is of.

    Args:
        predictions: What is measured.
        settings: How; ``resamples`` and ``seed`` have no effect.

    Raises:
        ConfigError: A library that a measure needs is not installed.
    """
    chosen = chosen_measures(predictions, kinds_of(predictions), settings.metrics)
    return {
        measure.name: _value_now(measure, [predictions[row] for row in rows], settings.iou)
        for measure, rows in chosen
    }


def evaluation_record(
    after: Sequence[Prediction],
    before: Sequence[Prediction] | None,
    settings: EvaluationSettings,
    on_draw: OnDraw = lambda: None,
) -> dict[str, Any]:
    """The content of ``evaluation.json``.

    Args:
        after: What is measured.
        before: Answers of another model to the same questions; None where nothing is compared.
        settings: How.
        on_draw: Told of every draw.

    Raises:
        DataError: The two are not about the same questions.
        ConfigError: A library that a measure needs is not installed.
    """
    if before is not None:
        before = _in_order(after, before)
    kinds = kinds_of(after)
    chosen = chosen_measures(after, kinds, settings.metrics)
    units = units_of([(one.file, one.line, one.row) for one in after])
    is_detection = any(measure.score is None for measure, _ in chosen)
    measured = _measured(chosen, after, before, units, settings, on_draw)
    return {
        "schema": 1,
        "num_predictions": len(after),
        "num_samples": int(units.max()) + 1,
        "settings": {
            "metrics": list(settings.metrics),
            "iou": settings.iou,
            "resamples": settings.resamples,
            "seed": settings.seed,
            "confidence": CONFIDENCE,
        },
        "kinds": dict(Counter(kinds)),
        "metrics": measured,
        "box_sizes": box_sizes(after, before) if is_detection else None,
        "sources": _sources(chosen, after, before, settings),
        "labels": labels_record(after, before, settings.iou) if is_detection else [],
        "reading": reading_record(after),
        "reading_before": None if before is None else reading_record(before),
    }


def _in_order(after: Sequence[Prediction], before: Sequence[Prediction]) -> list[Prediction]:
    """The predictions of before in the order of after."""
    known = {one.key: one for one in before}
    missing = [one for one in after if one.key not in known]
    extra = known.keys() - {one.key for one in after}
    if missing or extra:
        file, line, row, *_ = missing[0].key if missing else next(iter(extra))
        where = f"{file}:{line}" if line is not None else f"{file} row {row}".strip()
        raise DataError(
            f"the two are not about the same questions: {len(missing)} of {len(after)} are "
            f"answered in the first alone, {len(extra)} of {len(before)} in the second; "
            f"{where} for one.",
            fix="Predict both on the same data, with the same --turns and --samples.",
        )
    for one in after:
        _refuse_other_annotation(one, known[one.key])
    return [known[one.key] for one in after]


def _refuse_other_annotation(one: Prediction, other: Prediction) -> None:
    # In words boxes differ where another picture size is seen; in the picture they are equal.
    said = [
        f"{len(found.annotated)} boxes and points" if found.annotated else repr(found.annotation)
        for found in (one, other)
    ]
    if said[0] != said[1]:
        raise DataError(
            f"the question is annotated with {said[0]} in the first, with {said[1]} in the second.",
            file=one.file or None,
            line=one.line,
            fix="Predict both on the same data.",
        )


class _Measured:
    """A measure of one set of predictions, on them as they are and on any draw."""

    def __init__(
        self,
        measure: MeasureRecord,
        rows: Sequence[int],
        predictions: Sequence[Prediction],
        iou: float,
    ) -> None:
        found = [predictions[row] for row in rows]
        self._rows = np.asarray(rows, dtype=np.int64)
        self.value = _value_now(measure, found, iou)
        self.drawn: list[float | None] = []
        self._on_draw = _drawing(measure, found, iou)

    def draw(self, weights: np.ndarray) -> None:
        self.drawn.append(self._on_draw(weights[self._rows]))

    def interval(self) -> Interval:
        return interval(self.value, self.drawn)


def _value_now(measure: MeasureRecord, found: Sequence[Prediction], iou: float) -> float | None:
    if measure.score is None:
        precision = average_precision([picture_of(one) for one in found])
        known = {"map": precision.mean, "map_50": precision.at_50, "map_75": precision.at_75}
        return known[measure.name]
    return _drawing(measure, found, iou)(np.ones(len(found)))


def _drawing(measure: MeasureRecord, found: Sequence[Prediction], iou: float) -> Value:
    """A measure as a function of how often each prediction is there."""
    if measure.score is None:
        curves = Curves([picture_of(one) for one in found])
        return lambda weights: curves.mean(weights, measure.thresholds)
    shares = np.asarray([measure.score(one, iou) for one in found], dtype=np.float64).reshape(-1, 2)

    def share(weights: np.ndarray) -> float | None:
        part, whole = weights @ shares
        return float(part / whole) if whole else None

    return share


def _measured(
    chosen: Sequence[tuple[MeasureRecord, list[int]]],
    after: Sequence[Prediction],
    before: Sequence[Prediction] | None,
    units: np.ndarray,
    settings: EvaluationSettings,
    on_draw: OnDraw,
) -> list[dict[str, Any]]:
    of_after = [_Measured(measure, rows, after, settings.iou) for measure, rows in chosen]
    of_before = [
        _Measured(measure, rows, before, settings.iou)
        for measure, rows in chosen
        if before is not None
    ]
    for weights in draws(units, resamples=settings.resamples, seed=settings.seed):
        for one in (*of_after, *of_before):
            one.draw(weights)
        on_draw()
    records = []
    for place, (measure, rows) in enumerate(chosen):
        now, then = of_after[place], of_before[place] if of_before else None
        change = None
        if then is not None:
            grown = [difference(a, b) for a, b in zip(now.drawn, then.drawn, strict=True)]
            change = interval(difference(now.value, then.value), grown)._asdict()
        records.append(
            {
                "name": measure.name,
                "title": measure.title,
                "num": len(rows),
                **now.interval()._asdict(),
                "before": None if then is None else then.interval()._asdict(),
                "change": change,
            }
        )
    return records


def _sources(
    chosen: Sequence[tuple[MeasureRecord, list[int]]],
    after: Sequence[Prediction],
    before: Sequence[Prediction] | None,
    settings: EvaluationSettings,
) -> list[dict[str, Any]]:
    found = []
    for source in dict.fromkeys(one.source for one in after):
        metrics = {}
        for measure, rows in chosen:
            own = [row for row in rows if after[row].source == source]
            if own:
                metrics[measure.name] = {
                    "num": len(own),
                    "value": _value_now(measure, [after[row] for row in own], settings.iou),
                    "before": None
                    if before is None
                    else _value_now(measure, [before[row] for row in own], settings.iou),
                }
        num = sum(one.source == source for one in after)
        found.append({"source": source, "num": num, "metrics": metrics})
    return found
