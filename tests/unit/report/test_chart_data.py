"""The points that a page hands to the script of its charts."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from sightline.report.chart_data import MAX_POINTS, chart_data, chart_series
from sightline.report.curves import read_curve
from sightline.report.page import render_run

_STEPS = 100_000
_TOWERS = ("vision", "projector", "language", "embeddings", "head")


def test_a_long_series_is_thinned_and_keeps_its_extremes() -> None:
    points = [(float(step), 1.0) for step in range(1, _STEPS + 1)]
    points[54_321] = (54_322.0, 9.5)
    points[77_777] = (77_778.0, 0.25)
    made = chart_series("train", "loss", tuple(points))
    drawn = dict(zip(made["x"], made["y"], strict=True))
    assert len(drawn) <= MAX_POINTS + 2
    assert (drawn[54_322], drawn[77_778]) == (9.5, 0.25)
    assert {1, _STEPS} <= set(drawn)


def test_a_short_series_is_whole() -> None:
    points = tuple((float(step), step / 7) for step in range(1, 501))
    made = chart_series("train", "loss", points)
    assert made["x"] == list(range(1, 501))
    assert made["y"][6] == 1
    assert made["y"][0] == 0.14286


def test_a_name_that_turns_its_line_is_shown() -> None:
    made = chart_data("Loss", [chart_series("a\u202eb", "loss", ((1.0, 2.0),))])
    assert made["series"][0]["name"] == "a⟨U+202E⟩b"


def test_the_trend_of_a_long_run_is_its_median_at_some_steps() -> None:
    curve = read_curve([{"step": step, "loss": 2.0} for step in range(1, 20_001)])
    assert len(curve.trend) == 1000
    assert (curve.trend[0], curve.trend[-1]) == ((1.0, 2.0), (20_000.0, 2.0))


def test_the_page_of_a_run_of_100_000_steps_stays_small(tmp_path: Path, maker: Any) -> None:
    run = maker.make_run(tmp_path / "run")
    draw = random.Random(0)
    with (run / "metrics.jsonl").open("w", encoding="utf-8") as file:
        for step in range(1, _STEPS + 1):
            towers = {tower: draw.random() for tower in _TOWERS}
            line = {
                "step": step,
                "loss": draw.random(),
                "learning_rate": draw.random(),
                "tokens_per_second": 1000 + draw.random(),
                "memory_mib": 900 + draw.random(),
                "grad_norm_by_tower": towers,
                "weight_change_by_tower": towers,
                "learning_rate_by_tower": towers,
            }
            file.write(json.dumps(line) + "\n")
    assert render_run(run).stat().st_size < 900_000
