"""The page over several runs: the first experiment, one run a family."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sightline.records import write_text
from sightline.report.chart_data import loss_data
from sightline.report.charts import Chart, build_chart
from sightline.report.facts import Verdict, verdict_of
from sightline.report.html import render_template
from sightline.report.run import RunRecords, load_run
from sightline.report.samples import SamplesView, view_samples


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilyView:
    """One run of the experiment.

    Attributes:
        key: Unique in the page, for references inside it.
        title: The family.
        final_loss: Training loss of the last logged step, or None where nothing was logged.
        verdict: The verdict on the run.
        samples: Its samples, or None where it was not verified.
        chart: Its loss curve, or None where nothing was logged.
        loss: The points of the curve, for the script of the page.
        link: Relative address of the run's own report, or None where there is none.
    """

    key: str
    title: str
    final_loss: float | None
    verdict: Verdict
    samples: SamplesView | None
    chart: Chart | None
    loss: dict[str, Any]
    link: str | None

    @property
    def is_exact(self) -> bool:
        """Whether every answer of the exported model is the annotation."""
        return self.samples is not None and self.samples.num_equal == self.samples.num_samples

    @property
    def control_breaks(self) -> bool:
        """Whether the control has fewer exact answers than there are samples."""
        control = self.samples.control_equal if self.samples else None
        return (
            control is not None
            and self.samples is not None
            and (control < self.samples.num_samples)
        )

    @property
    def holds(self) -> bool:
        """Whether the run shows what the experiment must show."""
        return self.is_exact and self.control_breaks and self.verdict.kind == "holds"


def render_demo(run_dirs: Sequence[Path], html_path: Path) -> Path:
    """Write one self-contained page over several runs.

    Args:
        run_dirs: The run directories, in the order of the table.
        html_path: Where the page goes.

    Returns:
        The path of the page.

    Raises:
        RunError: One of them is not a run directory, or one of its files is broken.
    """
    write_text(html_path, demo_html([load_run(path) for path in run_dirs], html_path))
    return html_path


def demo_html(runs: Sequence[RunRecords], html_path: Path) -> str:
    """The page over several runs as HTML."""
    families = [_view(run, html_path, f"f{place}") for place, run in enumerate(runs)]
    return render_template(
        "demo.html.j2",
        {"families": families, "holds": all(view.holds for view in families)},
        scripts=("page.js", "charts.js"),
    )


def _view(run: RunRecords, html_path: Path, key: str) -> FamilyView:
    samples = None
    if run.predictions is not None:
        samples = view_samples(run.predictions, root=run.path, prefix=f"{key}s", limit=4)
    return FamilyView(
        key=key,
        title=run.family_title,
        final_loss=run.curve.final_loss,
        verdict=verdict_of(run),
        samples=samples,
        chart=build_chart(run.curve, width=360, height=210, with_rate=False),
        loss=loss_data(run.curve, title=f"Loss of {run.family_title}", size="medium"),
        link=_link(run.path / "report.html", html_path),
    )


def _link(page: Path, html_path: Path) -> str | None:
    if not page.is_file():
        return None
    return quote(Path(os.path.relpath(page, html_path.resolve().parent)).as_posix())
