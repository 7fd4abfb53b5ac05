"""The loss curve as a PNG."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from sightline.records import read_jsonl, write_bytes
from sightline.report.curves import LossCurve, read_curve
from sightline.report.quantities import number_text

_INK, _SOFT, _GRID, _ACCENT, _HELD_OUT = "#1b1f24", "#57606a", "#e3e7eb", "#0b5cad", "#b35900"
_DPI = 140
_MOST_MARKERS = 40


def plot_loss(metrics_path: Path, png_path: Path) -> None:
    """Draw loss and learning rate over the steps of a run, 1400 x 700 pixels.

    The loss stands on a logarithmic axis where it spans more than two decades.

    Args:
        metrics_path: A ``metrics.jsonl``. Where it is not there, the run stopped before its first
            logged step, and the picture says so.
        png_path: Where the picture goes.
    """
    curve = read_curve(read_jsonl(metrics_path) if metrics_path.is_file() else [])
    figure = draw_curve(curve)
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=_DPI)
    write_bytes(png_path, target.getvalue())


def draw_curve(curve: LossCurve) -> Figure:
    """The figure of a curve.

    Args:
        curve: What was logged.
    """
    figure = Figure(figsize=(10, 5), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    if not curve.loss:
        figure.text(0.5, 0.5, "No step was logged.", ha="center", color=_SOFT, fontsize=15)
        return figure
    if curve.rate:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(6, 1))
        _draw_rate(lower, curve)
    else:
        upper = lower = figure.subplots()
    _draw_loss(upper, curve)
    figure.align_ylabels()
    lower.set_xlabel("step", fontsize=12, color=_SOFT)
    lower.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    return figure


def _draw_loss(axes: Axes, curve: LossCurve) -> None:
    _dress(axes, "loss")
    steps, losses = zip(*curve.loss, strict=True)
    trend = curve.trend
    axes.plot(steps, losses, color=_ACCENT, lw=2.2, alpha=0.3 if trend else 1, zorder=3)
    if trend:
        axes.plot(*zip(*trend, strict=True), color=_ACCENT, lw=2.4, zorder=4)
    _mark_end(axes, curve.loss[-1], _ACCENT, "")
    if curve.evaluation:
        marker = "o" if len(curve.evaluation) <= _MOST_MARKERS else ""
        points = zip(*curve.evaluation, strict=True)
        axes.plot(*points, color=_HELD_OUT, lw=2, ls="--", marker=marker, ms=5)
        _mark_end(axes, curve.evaluation[-1], _HELD_OUT, "held out ")
    if curve.is_logarithmic:
        axes.set_yscale("log", nonpositive="clip")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number_text(value)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom=0)


def _mark_end(axes: Axes, point: tuple[float, float], color: str, name: str) -> None:
    axes.plot(*point, marker="o", ms=7, color=color, zorder=5, clip_on=False)
    axes.annotate(
        f"{name}{number_text(point[1])}",
        point,
        xytext=(10, 0),
        textcoords="offset points",
        va="center",
        color=color,
        fontsize=14,
        fontweight="bold",
        annotation_clip=False,
    )


def _draw_rate(axes: Axes, curve: LossCurve) -> None:
    _dress(axes, "learning\nrate")
    axes.plot(*zip(*curve.rate, strict=True), color=_SOFT, lw=1.6)
    peak = max(value for _, value in curve.rate)
    axes.set_ylim(0, (peak or 1.0) * 1.15)
    axes.set_yticks([0, peak] if peak else [0], labels=["0", number_text(peak)][: 2 if peak else 1])


def _dress(axes: Axes, name: str) -> None:
    """A quiet frame: two spines, a light grid behind."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_SOFT)
    axes.grid(axis="y", color=_GRID, lw=1)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, labelsize=12)
    axes.set_ylabel(name, fontsize=12, color=_SOFT)
