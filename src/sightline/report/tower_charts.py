"""Curves by tower, and small ones of speed and memory, as shapes of an inline SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sightline.report.chart_data import chart_data, chart_series
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
# Of a small letter on average, and the most that labels may take of a chart.
_LETTER_WIDTH, _MOST_RIGHT = 6.8, 180.0
_WIDE, _NARROW = 480.0, 360.0
_HEIGHT, _SMALL_HEIGHT = 230.0, 104.0
# Of a logarithmic axis: what is lower stands at its lower edge.
_REACH = 1e6
# Of rates: a schedule that ends at zero would spend the axis on its last steps.
_RATE_REACH = 100.0
# Learning rates this far apart would share a linear axis badly.
_FAR_APART = 10.0
_SPELLED = {"iou": "IoU", "map": "mAP", "anls": "ANLS", "rouge": "ROUGE", "l": "L"}
# Of lines that are no towers, before colours come again.
_NUM_COLOURS = 6


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
    lowest: float
    is_logarithmic: bool
    is_small: bool
    summary: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ChartPair:
    """A chart for a wide page, the same for a narrow one, and its points for the script."""

    wide: SeriesChart
    narrow: SeriesChart
    data: dict[str, Any]


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
    numbers_lines: bool = False

    def colour(self, place: int, name: str) -> str:
        """What the colour of a line goes by."""
        return f"line-{place % _NUM_COLOURS + 1}" if self.numbers_lines else name


def watched_charts(watched: Watched) -> list[ChartPair]:
    """The charts of a run: gradients, weight change, rates, speed and memory, where logged.

    Args:
        watched: The run's curves.
    """
    subjects = [
        _Subject(
            title="Answers to held-out data",
            note="measured while it trained",
            curves={measure_title(name): points for name, points in watched.measures.items()},
            borders=watched.borders,
            numbers_lines=True,
        ),
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
    return [_pair(subject) for subject in subjects if any(subject.curves.values())]


def lines_chart(
    title: str, note: str, curves: Mapping[str, Points], *, is_logarithmic: bool = False
) -> ChartPair | None:
    """A chart of lines that are no towers, or None where none has a point.

    Args:
        title: What it shows.
        note: What else has to be known.
        curves: The lines by name.
        is_logarithmic: Whether equal distances are equal ratios.
    """
    subject = _Subject(
        title=title,
        note=note,
        curves=curves,
        borders=(),
        is_logarithmic=is_logarithmic,
        numbers_lines=True,
    )
    return _pair(subject) if any(curves.values()) else None


def measure_title(name: str) -> str:
    """The name of a measure in words.

    >>> measure_title("box_iou"), measure_title("map_50")
    ('box IoU', 'mAP 50')
    """
    return " ".join(_SPELLED.get(word, word) for word in name.split("_"))


def _pair(subject: _Subject) -> ChartPair:
    wide = _chart(subject, _WIDE)
    series = [
        chart_series(subject.title if name == "single" else name, drawn.key, subject.curves[name])
        for name, drawn in zip(_drawn(subject), wide.series, strict=True)
    ]
    data = chart_data(
        subject.title,
        series,
        size="small" if subject.is_small else "medium",
        is_logarithmic=wide.is_logarithmic,
        floor=wide.lowest if wide.is_logarithmic else None,
        counts=subject.is_small,
        tells_peak=subject.tells_peak,
        borders=subject.borders,
    )
    return ChartPair(wide=wide, narrow=_chart(subject, _NARROW), data=data)


def _drawn(subject: _Subject) -> dict[str, Points]:
    return {name: points for name, points in subject.curves.items() if points}


def _is_far_apart(curves: Mapping[str, Points]) -> bool:
    peaks = [peak for points in curves.values() if (peak := _peak(points)) > 0]
    return len(peaks) > 1 and max(peaks) > _FAR_APART * min(peaks)


def _chart(subject: _Subject, width: float) -> SeriesChart:
    height = _SMALL_HEIGHT if subject.is_small else _HEIGHT
    curves = _drawn(subject)
    steps = [step for points in curves.values() for step, _ in points]
    x = step_axis(steps, start=_LEFT, end=width - _right(subject, curves))
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
        series=[
            Series(key=subject.colour(place, name), line=line)
            for place, (name, line) in enumerate(zip(curves, placed, strict=True))
        ],
        lowest=y.low,
        is_logarithmic=y.is_logarithmic,
        is_small=subject.is_small,
        summary=_summary(subject, curves),
    )


def _right(subject: _Subject, curves: Mapping[str, Points]) -> float:
    """Room for the labels at the ends of the lines."""
    longest = max(len(_label(subject, key, points)) for key, points in curves.items())
    return min(max(_RIGHT, longest * _LETTER_WIDTH + 14), _MOST_RIGHT)


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
