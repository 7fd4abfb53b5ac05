"""The loss curve as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from sightline.report.curves import read_curve
from sightline.report.plots import draw_curve, plot_loss


def test_picture_is_1400_by_700(tmp_path: Path, maker: Any) -> None:
    run = maker.make_run(tmp_path / "run")
    plot_loss(run / "metrics.jsonl", run / "loss.png")
    with Image.open(run / "loss.png") as picture:
        assert (picture.size, picture.format) == ((1400, 700), "PNG")


def test_without_metrics_the_picture_says_so(tmp_path: Path) -> None:
    plot_loss(tmp_path / "metrics.jsonl", tmp_path / "loss.png")
    figure = draw_curve(read_curve([]))
    assert (tmp_path / "loss.png").is_file()
    assert [text.get_text() for text in figure.texts] == ["No step was logged."]


def test_final_losses_stand_at_the_ends(maker: Any) -> None:
    figure = draw_curve(read_curve(maker.metrics_lines()))
    upper, lower = figure.axes
    assert [text.get_text() for text in upper.texts] == ["6.4e-4", "held out 0.01"]
    assert upper.get_yscale() == "log"
    assert lower.get_ylabel() == "learning\nrate"


def test_a_narrow_span_is_linear() -> None:
    figure = draw_curve(read_curve([{"step": 1, "loss": 3.0}, {"step": 2, "loss": 1.0}]))
    assert len(figure.axes) == 1
    assert figure.axes[0].get_yscale() == "linear"
