"""The loss curve as shapes of an inline SVG; the template only draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sightline.report.curves import LossCurve, Points, thinned
from sightline.report.quantities import number_text
from sightline.report.watched import Border

_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 76.0, 12.0, 26.0
_RATE_HEIGHT, _RATE_GAP = 34.0, 30.0
_BORDER_NAME_HEIGHT = 10.0
RATE_PANEL_HEIGHT = _RATE_HEIGHT + _RATE_GAP
"""Height of the panel of the learning rate below the loss, with the gap above it."""
# Two labels at the end of two lines need this much between their baselines.
_LABEL_GAP = 14.0
# Of a small letter on average; only whether a name of a stage fits depends on it.
_LETTER_WIDTH = 7.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Tick:
    """A mark on an axis: where, and what it says."""

    at: float
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """Values to places in the drawing.

    Attributes:
        low: Value at ``start``.
        high: Value at ``end``.
        start: Place of ``low``, in units of the drawing.
        end: Place of ``high``.
        is_logarithmic: Whether equal distances are equal ratios.
        counts: Whether values are whole numbers.
    """

    low: float
    high: float
    start: float
    end: float
    is_logarithmic: bool = False
    counts: bool = False

    def place(self, value: float) -> float:
        """Where a value stands; values outside stand at the edge."""
        value = min(max(value, self.low), self.high)
        if self.is_logarithmic:
            part = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return round(self.start + part * (self.end - self.start), 2)

    def ticks(self, count: int) -> list[Tick]:
        """About ``count`` round values with their places."""
        values = _decades(self, count) if self.is_logarithmic else _round_values(self, count)
        if self.counts:
            return [Tick(at=self.place(value), text=f"{value:,.0f}") for value in values]
        return [Tick(at=self.place(value), text=number_text(value)) for value in values]


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A curve in the drawing.

    Attributes:
        points: ``x,y`` pairs as SVG writes them.
        x: Place of its last point.
        y: The same, from above.
        label: What stands at its end.
        label_y: Baseline of the label.
    """

    points: str
    x: float
    y: float
    label: str = ""
    label_y: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """Everything that a template needs to draw a loss curve."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    loss: Line
    trend: Line | None
    evaluation: Line | None
    rate: Line | None
    rate_top: float
    rate_bottom: float
    rate_peak: str
    borders: list[Tick]
    is_logarithmic: bool
    summary: str


def build_chart(
    curve: LossCurve,
    *,
    width: float = 720,
    height: float = 300,
    with_rate: bool = True,
    borders: Sequence[Border] = (),
) -> Chart | None:
    """The shapes of a curve, or None where no loss was logged.

    Args:
        curve: What was logged.
        width: Width of the drawing, pixels at full size.
        height: Height of the drawing with the panel of the learning rate, pixels.
        with_rate: Whether there is a panel for the learning rate, where it was logged.
        borders: Where the stages of the run begin.
    """
    if not curve.loss:
        return None
    with_rate = with_rate and bool(curve.rate)
    top = _TOP + (_BORDER_NAME_HEIGHT if borders else 0)
    bottom = height - _BOTTOM - (RATE_PANEL_HEIGHT if with_rate else 0)
    steps = [step for step, _ in (*curve.loss, *curve.evaluation)]
    x = step_axis(steps, start=_LEFT, end=width - _RIGHT)
    y = _loss_axis(curve, start=bottom, end=top)
    loss = to_line(curve.loss, x, y, number_text(curve.loss[-1][1]))
    evaluation = None
    if curve.evaluation:
        evaluation = to_line(curve.evaluation, x, y, number_text(curve.evaluation[-1][1]))
        loss, evaluation = spread_labels([loss, evaluation])
    return Chart(
        width=width,
        height=height,
        left=x.start,
        right=x.end,
        top=top,
        bottom=bottom,
        x_ticks=x.ticks(5 if width > 500 else 3),
        y_ticks=y.ticks(5),
        loss=loss,
        trend=to_line(curve.trend, x, y) if curve.trend else None,
        evaluation=evaluation,
        rate=_rate_line(curve.rate, x, height) if with_rate else None,
        rate_top=height - _BOTTOM - _RATE_HEIGHT,
        rate_bottom=height - _BOTTOM,
        rate_peak=number_text(max(value for _, value in curve.rate)) if with_rate else "",
        borders=border_ticks(borders, x),
        is_logarithmic=y.is_logarithmic,
        summary=_summary(curve),
    )


def _summary(curve: LossCurve) -> str:
    """The curve in one sentence, for those who do not see it."""
    (first, start), (last, end) = curve.loss[0], curve.loss[-1]
    text = (
        f"Loss over steps: {number_text(start)} at step {first:.0f}, "
        f"{number_text(end)} at step {last:.0f}."
    )
    if curve.evaluation:
        text += f" Last evaluation loss {number_text(curve.evaluation[-1][1])}."
    return text


def step_axis(steps: Sequence[float], *, start: float, end: float) -> Axis:
    """The axis of steps, from the first to the last.

    Args:
        steps: Every step that is drawn, at least one.
        start: Place of the first.
        end: Place of the last.
    """
    first = min(steps)
    last = max(max(steps), first + 1)
    return Axis(low=first, high=last, start=start, end=end, counts=True)


def border_ticks(borders: Sequence[Border], x: Axis) -> list[Tick]:
    """Where stages begin, each with its name, its number, or nothing, as there is room."""
    places = [x.place(border.step) for border in borders]
    ticks = []
    for border, at, after in zip(borders, places, [*places[1:], x.end], strict=False):
        texts = (border.name, str(border.number))
        fitting = (text for text in texts if len(text) * _LETTER_WIDTH + 6 <= after - at)
        ticks.append(Tick(at=at, text=next(fitting, "")))
    return ticks


def _loss_axis(curve: LossCurve, *, start: float, end: float) -> Axis:
    if curve.is_logarithmic:
        positive = [value for value in curve.losses if value > 0]
        low, high = min(positive) / 1.4, max(positive) * 1.4
        return Axis(low=low, high=high, start=start, end=end, is_logarithmic=True)
    high = max(curve.losses) * 1.06
    return Axis(low=0.0, high=high or 1.0, start=start, end=end)


def to_line(points: Points, x: Axis, y: Axis, label: str = "", *, limit: int = 600) -> Line:
    """A curve as a line.

    Args:
        points: Its points, at least one.
        x: Axis of the steps.
        y: Axis of the values.
        label: What stands at its end.
        limit: Points that are drawn, at most.
    """
    places = [(x.place(step), y.place(value)) for step, value in thinned(points, limit)]
    return Line(
        points=" ".join(f"{left:g},{top:g}" for left, top in places),
        x=places[-1][0],
        y=places[-1][1],
        label=label,
        label_y=round(places[-1][1] + 4, 2),
    )


def _rate_line(points: Points, x: Axis, height: float) -> Line:
    peak = max(value for _, value in points)
    bottom = height - _BOTTOM
    axis = Axis(low=0.0, high=peak or 1.0, start=bottom, end=bottom - _RATE_HEIGHT)
    return to_line(points, x, axis)


def spread_labels(
    lines: Sequence[Line], *, low: float = -math.inf, high: float = math.inf
) -> list[Line]:
    """Lines whose labels do not cover each other, each as near to its line as may be.

    Args:
        lines: The lines; their order is kept.
        low: The highest place of a baseline, from above.
        high: The lowest.
    """
    order = sorted(range(len(lines)), key=lambda place: lines[place].label_y)
    # Labels that touch are one group around the middle of their lines.
    groups: list[list[int]] = []

    def top_of(group: list[int]) -> float:
        half = (len(group) - 1) * _LABEL_GAP / 2
        middle = sum(lines[place].label_y for place in group) / len(group)
        return max(min(middle, high - half), low + half) - half

    for place in order:
        groups.append([place])
        while len(groups) > 1 and _touch(groups[-2], top_of(groups[-2]), top_of(groups[-1])):
            below = groups.pop()
            groups[-1] = [*groups[-1], *below]
    spread = list(lines)
    for group in groups:
        for rank, place in enumerate(group):
            at = round(top_of(group) + rank * _LABEL_GAP, 2)
            spread[place] = replace(lines[place], label_y=at)
    return spread


def _touch(above: list[int], top_above: float, top_below: float) -> bool:
    return top_below - top_above < len(above) * _LABEL_GAP


def _decades(axis: Axis, count: int) -> list[float]:
    first, last = math.ceil(math.log10(axis.low)), math.floor(math.log10(axis.high))
    step = max(1, math.ceil((last - first + 1) / count))
    return [10.0**power for power in range(last, first - 1, -step)]


def _round_values(axis: Axis, count: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten."""
    rough = (axis.high - axis.low) / count
    rough = max(rough, 1.0) if axis.counts else rough
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first, last = math.ceil(axis.low / step), math.floor(axis.high / step)
    return [place * step for place in range(first, last + 1)]
