"""Positions of a sample as a picture."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sightline.records import write_bytes
from sightline.records.preview import ShownSpan
from sightline.report.positions import DrawnPositions, shown_tokens

_INK, _SOFT, _GRID = "#1b1f24", "#57606a", "#e3e7eb"
# Apart for the colour-blind and in grey (Okabe and Ito): time, height, width.
_AXES = (("time", "#0072b2", "-"), ("height", "#d55e00", "-"), ("width", "#009e73", "-"))
_SHADES = {"image": "#f2e2c4", "video": "#d3e4f3"}
_DPI = 140
_MOST_POINTS = 4000
_MOST_SHADES = 400


def plot_positions(drawn: DrawnPositions, png_path: Path) -> None:
    """Draw time, height and width over the tokens of a sample, 1400 pixels wide.

    Args:
        drawn: The sample.
        png_path: Where the picture goes.
    """
    target = io.BytesIO()
    draw_positions(drawn).savefig(target, format="png", dpi=_DPI)
    write_bytes(png_path, target.getvalue())


def draw_positions(drawn: DrawnPositions) -> Figure:
    """The figure: the whole sample, and below it the first image or video from near.

    Args:
        drawn: The sample.
    """
    vision = next((span for span in drawn.spans if span.kind != "text"), None)
    figure = Figure(figsize=(10, 7.5 if vision else 4.5), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2 if vision else 1, 1, squeeze=False)[:, 0]
    _draw(panels[0], drawn, 0, drawn.num_tokens)
    summary = (
        f"{drawn.num_tokens} tokens, largest position {drawn.largest} (1-D: "
        f"{drawn.num_tokens - 1}), rope_delta {drawn.rope_delta}"
    )
    panels[0].set_title(f"{drawn.title}\n{summary}", loc="left", fontsize=11, color=_INK)
    panels[0].legend(loc="lower right", frameon=False, fontsize=10, ncols=4)
    if vision is not None:
        start, stop = _window(drawn, vision)
        _draw(panels[1], drawn, start, stop)
        panels[1].set_title(f"from near: {vision.label}", loc="left", fontsize=11, color=_INK)
    panels[-1].set_xlabel("token", fontsize=11, color=_SOFT)
    return figure


def _window(drawn: DrawnPositions, span: ShownSpan) -> tuple[int, int]:
    """A few text tokens, and as many rows of the span as can be told apart."""
    around = max(4, min(24, (span.stop - span.start) // 8))
    stop = min(span.stop + around, span.start + 400, drawn.num_tokens)
    return max(0, span.start - around), stop


def _draw(axes: Axes, drawn: DrawnPositions, start: int, stop: int) -> None:
    for span in [span for span in drawn.spans if span.kind != "text"][:_MOST_SHADES]:
        left, right = max(span.start, start), min(span.stop, stop)
        if left < right:
            axes.axvspan(left - 0.5, right - 0.5, color=_SHADES[span.kind], lw=0)
            if right - left > 0.08 * (stop - start):
                axes.annotate(
                    span.label,
                    ((left + right) / 2, 0.97),
                    xycoords=("data", "axes fraction"),
                    ha="center",
                    va="top",
                    fontsize=9,
                    color=_SOFT,
                )
    tokens = shown_tokens(drawn, start, stop, most=_MOST_POINTS)
    axes.plot(tokens, tokens, color=_SOFT, ls=(0, (4, 3)), lw=1, label="1-D")
    marker = "." if len(tokens) <= 120 else ""
    # Width first: its teeth would cover the others.
    for (name, color, style), row in reversed(list(zip(_AXES, drawn.position_ids, strict=True))):
        axes.plot(tokens, row[tokens], style, color=color, lw=1.4, marker=marker, label=name)
    # On the scale of M-RoPE: on that of 1-D positions a video would be a flat line.
    shown = drawn.position_ids[:, start:stop]
    low, high = int(shown.min()), int(shown.max())
    axes.set_ylim(low - 0.16 * (high - low + 1), high + 0.16 * (high - low + 1))
    axes.set_xlim(start - 0.5, stop - 0.5)
    axes.set_ylabel("position", fontsize=11, color=_SOFT)
    axes.grid(axis="y", color=_GRID)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
