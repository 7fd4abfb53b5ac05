"""The page of one run."""

from __future__ import annotations

from pathlib import Path

from sightline.records import write_text
from sightline.report.chart_data import loss_data
from sightline.report.charts import RATE_PANEL_HEIGHT, Chart, build_chart
from sightline.report.facts import (
    data_facts,
    figure_facts,
    run_facts,
    setting_facts,
    verdict_of,
    version_facts,
)
from sightline.report.held_out import view_held_out, view_measures
from sightline.report.html import render_template
from sightline.report.model_drawing import draw_plan
from sightline.report.parameters import group_towers
from sightline.report.plan_proof import view_proof
from sightline.report.run import RunRecords, load_run
from sightline.report.samples import SamplesView, view_samples
from sightline.report.tower_charts import watched_charts

SCRIPTS = ("page.js", "charts.js", "gallery.js")
"""What a browser may run on the page of a run."""


def render_run(run_dir: Path) -> Path:
    """Write the report of a run: one self-contained HTML file in its directory.

    A run that stopped early has a report too, which says what is not there.

    Args:
        run_dir: The run directory.

    Returns:
        The path of the page.

    Raises:
        RunError: It is not a run directory, or one of its files is broken.
    """
    page = run_dir / "report.html"
    write_text(page, run_html(load_run(run_dir)))
    return page


def run_html(run: RunRecords) -> str:
    """The page of a run as HTML."""
    return render_template(
        "run.html.j2",
        {
            "run": run,
            "verdict": verdict_of(run),
            "facts": run_facts(run),
            "data": data_facts(run.ledger) if run.ledger else None,
            "settings": setting_facts(run),
            "versions": version_facts(run),
            "chart": _loss_chart(run, width=720, height=340),
            "narrow_chart": _loss_chart(run, width=360, height=300),
            "loss_data": loss_data(run.curve, borders=run.watched.borders),
            "watched": watched_charts(run.watched),
            "towers": group_towers(run.plan) if run.plan else [],
            "model": draw_plan(run.plan) if run.plan else [],
            "certificate": run.certificate,
            "figures": figure_facts,
            "proof": view_proof(run.proof),
            "measures": view_measures(run.evaluation) if run.evaluation else None,
            "held_out": view_held_out(run.answers, run.answers_before, root=run.path),
            "samples": _samples(run),
        },
        scripts=SCRIPTS,
    )


def _loss_chart(run: RunRecords, *, width: float, height: float) -> Chart | None:
    watched = run.watched
    # Rates by tower have a chart of their own.
    with_rate = not watched.rates
    if not with_rate:
        height -= RATE_PANEL_HEIGHT
    return build_chart(
        run.curve, width=width, height=height, with_rate=with_rate, borders=watched.borders
    )


def _samples(run: RunRecords) -> SamplesView | None:
    if run.predictions is None:
        return None
    return view_samples(run.predictions, root=run.path)
