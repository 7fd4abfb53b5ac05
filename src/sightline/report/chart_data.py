"""The points of a chart as a page hands them to its script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from sightline.report.curves import LossCurve, Points, thinned
from sightline.report.visible import visible_text
from sightline.report.watched import Border

MAX_POINTS = 1000
"""Points of a series at most: a run of 100,000 steps is a page of some hundred kilobytes."""
# Of a value; more cannot be seen, and would double the page.
_DIGITS = 5

Size = Literal["large", "medium", "small"]


def chart_data(
    title: str,
    series: Sequence[dict[str, Any]],
    *,
    size: Size = "medium",
    is_logarithmic: bool = False,
    floor: float | None = None,
    counts: bool = False,
    tells_peak: bool = False,
    borders: Sequence[Border] = (),
) -> dict[str, Any]:
    """What ``charts.js`` draws.

    Args:
        title: What the chart shows.
        series: Of `chart_series`.
        size: How high it is.
        is_logarithmic: Whether it begins with a logarithmic axis; its reader can change that.
        floor: Where a logarithmic axis ends below, as long as nothing is zoomed.
        counts: Whether values are whole numbers.
        tells_peak: Whether the legend tells the highest value of a series, not its last.
        borders: Where the stages of the run begin.
    """
    return {
        "title": visible_text(title),
        "size": size,
        "log": is_logarithmic,
        "floor": floor,
        "counts": counts,
        "told": "peak" if tells_peak else "last",
        "borders": [{"at": border.step, "name": visible_text(border.name)} for border in borders],
        "series": list(series),
    }


def loss_data(
    curve: LossCurve, *, title: str = "Loss", size: Size = "large", borders: Sequence[Border] = ()
) -> dict[str, Any]:
    """The loss of a run: of training, its running median, and of held-out data.

    Args:
        curve: What was logged.
        title: What the chart is called.
        size: How high it is drawn.
        borders: Where the stages of the run begin.
    """
    lines = (
        ("train", "loss", curve.loss),
        ("running median", "trend", curve.trend),
        ("held out", "held", curve.evaluation),
    )
    return chart_data(
        title,
        [chart_series(name, key, points) for name, key, points in lines if points],
        size=size,
        is_logarithmic=curve.is_logarithmic,
        borders=borders,
    )


def chart_series(name: str, key: str, points: Points) -> dict[str, Any]:
    """One line of a chart, thin enough for a page, its lowest and highest values kept.

    Args:
        name: What the legend calls it.
        key: What its colour goes by: the class is ``of-KEY``.
        points: (step, value) in the order of the steps.

    >>> chart_series("train", "loss", ((1.0, 2.0), (2.5, 1.0000001)))
    {'name': 'train', 'key': 'loss', 'x': [1, 2.5], 'y': [2, 1]}
    """
    drawn = thinned(points, MAX_POINTS)
    return {
        "name": visible_text(name),
        "key": key,
        "x": [_short(step, 12) for step, _ in drawn],
        "y": [_short(value, _DIGITS) for _, value in drawn],
    }


def _short(value: float, digits: int) -> float | int:
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() else rounded
