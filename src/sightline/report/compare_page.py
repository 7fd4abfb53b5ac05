"""Runs side by side as one self-contained page: curves over each other, tables, verdicts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sightline.records import write_text
from sightline.report.compare_rows import compared_tables, letters
from sightline.report.curves import Points
from sightline.report.facts import Verdict, verdict_of
from sightline.report.html import render_template
from sightline.report.run import RunRecords
from sightline.report.tower_charts import ChartPair, Series, SeriesChart, lines_chart

_COLOURS = ("vision", "projector", "language", "embeddings", "head")
# Dashes as an SVG has them, and as a gradient of the legend: strokes and gaps in turn, pixels.
_DASHES = ((), (8, 4), (2, 4), (12, 3, 2, 3), (5, 2))
_SCRIPTS = ("page.js", "charts.js")


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedRun:
    """A run as the page names it.

    Attributes:
        letter: What it is called in curves and tables.
        number: Its place, from 0, which decides colour and dashes.
        name: Its folder.
        record: Of `compare_record`.
        verdict: The verdict on it.
        link: Relative address of its own report, or None where there is none.
    """

    letter: str
    number: int
    name: str
    record: Mapping[str, Any]
    verdict: Verdict
    link: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """How the lines of a run look, the same in all charts.

    Attributes:
        colour: Name of the colour.
        dashes: For ``stroke-dasharray``.
        stops: For ``repeating-linear-gradient``, which draws the same dashes.
    """

    colour: str
    dashes: str
    stops: str


def look_of(number: int) -> Look:
    """The look of a run; no two of the first 25 have the same dashes and colour.

    Args:
        number: Its place, from 0.

    >>> look_of(1)
    Look(colour='projector', dashes='8 4', stops='var(--series) 0px 8px, transparent 8px 12px')
    """
    turn = number // len(_COLOURS)
    dashes = _DASHES[(number + turn) % len(_DASHES)]
    stops, end = [], 0
    for place, length in enumerate(dashes or (1,)):
        colour = "transparent" if place % 2 else "var(--series)"
        stops.append(f"{colour} {end}px {end + length}px")
        end += length
    return Look(
        colour=_COLOURS[number % len(_COLOURS)],
        dashes=" ".join(map(str, dashes)) or "none",
        stops=", ".join(stops),
    )


def write_comparison(
    runs: Sequence[RunRecords], record: Mapping[str, Any], html_path: Path
) -> Path:
    """Write the page.

    Args:
        runs: The runs.
        record: Of `compare_record`.
        html_path: Where it goes.

    Returns:
        The path of the page.

    Raises:
        RunError: The file system refuses.
    """
    write_text(html_path, comparison_html(runs, record, html_path))
    return html_path


def comparison_html(runs: Sequence[RunRecords], record: Mapping[str, Any], html_path: Path) -> str:
    """The page as HTML."""
    names = letters(len(runs))
    compared = [
        ComparedRun(
            letter=letter,
            number=number,
            name=found["name"],
            record=found,
            verdict=verdict_of(run),
            link=_link(run.path / "report.html", html_path),
        )
        for number, (letter, run, found) in enumerate(zip(names, runs, record["runs"], strict=True))
    ]
    return render_template(
        "compare.html.j2",
        {
            "runs": compared,
            "tables": compared_tables(record),
            "charts": compared_charts(runs, [run.name for run in compared]),
            "looks": [look_of(run.number) for run in compared],
        },
        scripts=_SCRIPTS,
    )


def compared_charts(runs: Sequence[RunRecords], names: Sequence[str]) -> list[ChartPair]:
    """The curves of all runs over each other, one chart a kind.

    Args:
        runs: The runs.
        names: What the legends call them.
    """
    is_smooth = any(run.curve.trend for run in runs)
    is_logarithmic = any(run.curve.is_logarithmic for run in runs)
    median = "; of long runs the running median" if is_smooth else ""
    kinds: list[tuple[str, str, Callable[[RunRecords], Points], bool]] = [
        (
            "Training loss",
            f"per supervised token{median}",
            lambda run: run.curve.trend or run.curve.loss,
            is_logarithmic,
        ),
        ("Held-out loss", "per supervised token", lambda run: run.curve.evaluation, is_logarithmic),
        ("Learning rate", "the highest of all towers", lambda run: run.curve.rate, False),
        ("Gradient norm", "of all towers, before clipping", _gradients, True),
        ("Tokens a second", "without padding", lambda run: run.watched.tokens, False),
        ("Memory, MiB", "", lambda run: run.watched.memory, False),
    ]
    charts = []
    for title, note, points_of, is_log in kinds:
        curves = dict(zip(letters(len(runs)), map(points_of, runs), strict=True))
        chart = lines_chart(title, note, curves, is_logarithmic=is_log)
        if chart is not None:
            charts.append(_of_runs(chart, curves, names))
    return charts


def _gradients(run: RunRecords) -> Points:
    return tuple(
        (float(line["step"]), float(line["grad_norm"]))
        for line in run.metrics
        if line.get("loss") is not None and line.get("grad_norm") is not None
    )


def _of_runs(chart: ChartPair, curves: Mapping[str, Points], names: Sequence[str]) -> ChartPair:
    """A chart whose lines look as their runs do in every other chart, also where one has none."""
    drawn = [number for number, points in enumerate(curves.values()) if points]
    labels = letters(len(curves))

    def dressed(one: SeriesChart) -> SeriesChart:
        series = [
            Series(key=f"run-{number}", line=series.line)
            for number, series in zip(drawn, one.series, strict=True)
        ]
        return replace(one, series=series)

    series = [
        one | {"name": f"{labels[number]} {names[number]}", "key": f"run-{number}"}
        for number, one in zip(drawn, chart.data["series"], strict=True)
    ]
    return ChartPair(
        wide=dressed(chart.wide),
        narrow=dressed(chart.narrow),
        data=chart.data | {"series": series},
    )


def _link(page: Path, html_path: Path) -> str | None:
    if not page.is_file():
        return None
    return quote(Path(os.path.relpath(page, html_path.resolve().parent)).as_posix())
