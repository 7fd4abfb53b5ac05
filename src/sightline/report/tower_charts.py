"""Curves by tower, and small ones of speed and memory, as shapes of an inline SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sightline.report.charts import (
    Axis,
    Line,
    Tick,
    border_ticks,
    spread_labels,
    step_axis,
    to_line,
)
from sightline.report.curves import Points
from sightline.report.quantities import number_text
from sightline.report.watched import Border, Watched

_LEFT, _RIGHT, _TOP, _BOTTOM = 54.0, 112.0, 22.0, 26.0
_WIDE, _NARROW = 480.0, 360.0
_HEIGHT, _SMALL_HEIGHT = 230.0, 104.0
# Of a logarithmic axis: what is lower stands at its lower edge.
_REACH = 1e6
# Of rates: a schedule that ends at zero would spend the axis on its last steps.
_RATE_REACH = 100.0
# Learning rates this far apart would share a linear axis badly.
_FAR_APART = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """A line of a chart.

    Attributes:
        key: Its tower, which decides its colour; ``single`` where there is one line only.
        line: Its shape and label.
    """

    key: str
    line: Line


@dataclass(frozen=True, kw_only=True, slots=True)
class SeriesChart:
    """Everything that a template needs to draw lines over steps."""

    title: str
    note: str
    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    borders: list[Tick]
    series: list[Series]
    is_logarithmic: bool
    is_small: bool
    summary: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ChartPair:
    """A chart for a wide page, and the same for a narrow one."""

    wide: SeriesChart
    narrow: SeriesChart


@dataclass(frozen=True, kw_only=True, slots=True)
class _Subject:
    """What a chart shows."""

    title: str
    note: str
    curves: Mapping[str, Points]
    borders: Sequence[Border]
    is_small: bool = False
    is_logarithmic: bool = False
    tells_peak: bool = False


def watched_charts(watched: Watched) -> list[ChartPair]:
    """The charts of a run: gradients, weight change, rates, speed and memory, where logged.

    Args:
        watched: The run's curves.
    """
    subjects = [
        _Subject(
            title="Gradient norm",
            note="before clipping",
            curves=watched.gradients,
            borders=watched.borders,
            is_logarithmic=True,
        ),
        _Subject(
            title="Weight change",
            note="norm of the change over norm at the start",
            curves=watched.changes,
            borders=watched.borders,
        ),
        _Subject(
            title="Learning rate",
            note="the highest of each tower, with its peak",
            curves=watched.rates,
            borders=watched.borders,
            is_logarithmic=_is_far_apart(watched.rates),
            tells_peak=True,
        ),
        _Subject(
            title="Tokens a second",
            note="without padding",
            curves={"single": watched.tokens},
            borders=watched.borders,
            is_small=True,
        ),
        _Subject(
            title="Memory, MiB",
            note="",
            curves={"single": watched.memory},
            borders=watched.borders,
            is_small=True,
        ),
    ]
    return [
        ChartPair(wide=_chart(subject, _WIDE), narrow=_chart(subject, _NARROW))
        for subject in subjects
        if any(subject.curves.values())
    ]


def _is_far_apart(curves: Mapping[str, Points]) -> bool:
    peaks = [peak for points in curves.values() if (peak := _peak(points)) > 0]
    return len(peaks) > 1 and max(peaks) > _FAR_APART * min(peaks)


def _chart(subject: _Subject, width: float) -> SeriesChart:
    height = _SMALL_HEIGHT if subject.is_small else _HEIGHT
    curves = {key: points for key, points in subject.curves.items() if points}
    steps = [step for points in curves.values() for step, _ in points]
    x = step_axis(steps, start=_LEFT, end=width - _RIGHT)
    y = _value_axis(curves, subject, start=height - _BOTTOM, end=_TOP)
    lines = [
        to_line(points, x, y, _label(subject, key, points), limit=300)
        for key, points in curves.items()
    ]
    placed = spread_labels(lines, low=_TOP + 4, high=height - _BOTTOM + 4)
    return SeriesChart(
        title=subject.title,
        note=", ".join(filter(None, (subject.note, "logarithmic" if y.is_logarithmic else ""))),
        width=width,
        height=height,
        left=x.start,
        right=x.end,
        top=_TOP,
        bottom=y.start,
        x_ticks=x.ticks(4 if width > 400 else 3),
        y_ticks=y.ticks(2 if subject.is_small else 4),
        borders=border_ticks(subject.borders, x),
        series=[Series(key=key, line=line) for key, line in zip(curves, placed, strict=True)],
        is_logarithmic=y.is_logarithmic,
        is_small=subject.is_small,
        summary=_summary(subject, curves),
    )


def _value_axis(
    curves: Mapping[str, Points], subject: _Subject, *, start: float, end: float
) -> Axis:
    values = [value for points in curves.values() for _, value in points]
    positive = [value for value in values if value > 0]
    if subject.is_logarithmic and positive:
        high = max(positive) * 1.4
        low = max(min(positive) / 1.4, high / _REACH)
        if subject.tells_peak:
            peaks = [peak for points in curves.values() if (peak := _peak(points)) > 0]
            low = max(low, min(peaks) / _RATE_REACH)
        return Axis(low=low, high=high, start=start, end=end, is_logarithmic=True)
    high = max(values) * 1.08 or 1.0
    return Axis(low=0.0, high=high, start=start, end=end, counts=subject.is_small)


def _peak(points: Points) -> float:
    return max(value for _, value in points)


def _label(subject: _Subject, key: str, points: Points) -> str:
    if subject.is_small:
        return f"{points[-1][1]:,.0f}"
    return f"{key} {number_text(_peak(points) if subject.tells_peak else points[-1][1])}"


def _summary(subject: _Subject, curves: Mapping[str, Points]) -> str:
    """The chart in one sentence, for those who do not see it."""
    told = "at its peak" if subject.tells_peak else "at the last one"
    ends = ", ".join(_label(subject, key, points) for key, points in curves.items())
    return f"{subject.title} over steps; {told}: {ends}."
