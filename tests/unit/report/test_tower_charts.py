"""Curves by tower in numbers and in shapes, and what the page makes of them."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sightline.report.charts import Axis, Line, border_ticks, build_chart, spread_labels
from sightline.report.curves import read_curve
from sightline.report.html import render_template
from sightline.report.page import SCRIPTS, render_run
from sightline.report.tower_charts import SeriesChart, watched_charts
from sightline.report.watched import Border, read_watched

TOWERS = ("vision", "projector", "language", "embeddings", "head")
ATTACK = '<script>alert("x")</script>'


def _lines(num_steps: int = 30, towers: tuple[str, ...] = TOWERS) -> list[dict[str, Any]]:
    """Three stages of ten steps; vision joins in the last."""
    lines = []
    for step in range(1, num_steps + 1):
        stage = (step - 1) // 10 + 1
        active = [tower for tower in towers if tower != "vision" or stage == 3]
        lines.append(
            {
                "step": step,
                "loss": 6.0 / step,
                "grad_norm_by_tower": dict.fromkeys(active, 2.0 / step),
                "weight_change_by_tower": dict.fromkeys(towers, 0.01 * step),
                "learning_rate_by_tower": {
                    tower: (1e-5 if tower == "vision" else 1e-3) * (1 - step / num_steps)
                    for tower in active
                },
                "stage": stage,
                "tokens_per_second": 5000.0 + step,
                "memory_mib": 900.0,
            }
        )
    return lines


def _stages(*names: str) -> list[dict[str, Any]]:
    ends = [10 * number for number in range(1, len(names))]
    return [
        {"name": name, "step": step, "share": None, "plateau": False}
        for name, step in zip(names, [*ends, None], strict=True)
    ]


PLAN = {"stages": _stages("projector", "upper layers", "everything")}


def _charts(lines: list[dict[str, Any]] | None = None) -> dict[str, SeriesChart]:
    watched = read_watched(_lines() if lines is None else lines, PLAN)
    return {pair.wide.title: pair.wide for pair in watched_charts(watched)}


def _heights(chart: SeriesChart, key: str) -> list[float]:
    line = next(series.line for series in chart.series if series.key == key)
    return [float(point.partition(",")[2]) for point in line.points.split()]


def test_lines_are_told_apart_by_tower() -> None:
    watched = read_watched(_lines(), PLAN)
    assert tuple(watched.changes) == TOWERS
    assert watched.gradients["vision"] == tuple((float(n), 2.0 / n) for n in range(21, 31))
    assert watched.rates["head"][0] == (1.0, 1e-3 * (1 - 1 / 30))
    assert watched.tokens[-1] == (30.0, 5030.0)
    assert watched.memory[0] == (1.0, 900.0)


def test_a_stage_begins_after_the_last_step_of_the_one_before() -> None:
    assert [(b.step, b.number, b.name) for b in read_watched(_lines(), PLAN).borders] == [
        (1.0, 1, "projector"),
        (10.0, 2, "upper layers"),
        (20.0, 3, "everything"),
    ]
    assert read_watched(_lines(10), PLAN).borders == ()
    assert [b.name for b in read_watched(_lines(), None).borders] == ["1", "2", "3"]


def test_old_metrics_have_no_charts_by_tower(maker: Any) -> None:
    watched = read_watched(maker.metrics_lines(), None)
    assert watched_charts(watched) == []


def test_every_curve_has_a_chart() -> None:
    charts = _charts()
    assert list(charts) == [
        "Gradient norm",
        "Weight change",
        "Learning rate",
        "Tokens a second",
        "Memory, MiB",
    ]
    assert charts["Gradient norm"].is_logarithmic
    assert charts["Learning rate"].is_logarithmic
    assert not charts["Weight change"].is_logarithmic
    assert [series.key for series in charts["Weight change"].series] == list(TOWERS)
    falling = _heights(charts["Gradient norm"], "head")
    assert falling == sorted(falling)
    rising = _heights(charts["Weight change"], "head")
    assert rising == sorted(rising, reverse=True)


def test_labels_are_names_with_figures() -> None:
    charts = _charts()
    labels = {title: [one.line.label for one in chart.series] for title, chart in charts.items()}
    assert labels["Weight change"] == [f"{tower} 0.3" for tower in TOWERS]
    assert labels["Learning rate"][-1] == "head 9.67e-4"  # its peak
    assert labels["Tokens a second"] == ["5,030"]
    assert charts["Gradient norm"].summary == (
        "Gradient norm over steps; at the last one: vision 0.0667, projector 0.0667, language "
        "0.0667, embeddings 0.0667, head 0.0667."
    )


def test_five_labels_at_one_place_stand_apart_inside_the_chart() -> None:
    for chart in _charts().values():
        places = sorted(series.line.label_y for series in chart.series)
        gaps = [after - before for before, after in pairwise(places)]
        assert all(gap >= 13.99 for gap in gaps)
        assert places[0] >= chart.top
        assert places[-1] <= chart.bottom + 5


def test_labels_that_have_room_stay_at_their_lines() -> None:
    def line(at: float) -> Line:
        return Line(points="", x=0, y=at - 4, label="x", label_y=at)

    spread = spread_labels([line(100), line(10), line(104)])
    assert [one.label_y for one in spread] == [95.0, 10, 109.0]
    # A group at the edge moves into the next, which gives way.
    edge = spread_labels([line(100), line(100), line(85)], high=100)
    assert [one.label_y for one in edge] == [86.0, 100.0, 72.0]
    # A group pushed into another joins it.
    chain = spread_labels([line(10), line(20), line(30)])
    assert [one.label_y for one in chain] == [6.0, 20.0, 34.0]


def test_zero_gradients_stand_at_the_edge_of_a_logarithmic_axis() -> None:
    lines = [
        {"step": 1, "loss": 1.0, "grad_norm_by_tower": {"vision": 0.0, "language": 2.0}},
        {"step": 2, "loss": 1.0, "grad_norm_by_tower": {"vision": 1e-30, "language": 1.0}},
    ]
    chart = _charts(lines)["Gradient norm"]
    assert _heights(chart, "vision") == [chart.bottom, chart.bottom]
    assert max(_heights(chart, "language")) < chart.bottom - 100
    nothing = [{"step": 1, "loss": 1.0, "grad_norm_by_tower": {"vision": 0.0}}]
    assert not _charts(nothing)["Gradient norm"].is_logarithmic


def test_a_border_has_its_name_where_there_is_room() -> None:
    x = Axis(low=0, high=100, start=0, end=200, counts=True)
    borders = [
        Border(step=0, number=1, name="projector"),
        Border(step=50, number=2, name="a long name for ten steps"),
        Border(step=60, number=3, name="3"),
        Border(step=61, number=4, name="4"),
    ]
    ticks = border_ticks(borders, x)
    assert [tick.text for tick in ticks] == ["projector", "2", "", "4"]
    assert [tick.at for tick in ticks] == [0, 100, 120, 122]


def test_the_loss_has_the_borders_too() -> None:
    lines = _lines()
    borders = read_watched(lines, PLAN).borders
    chart = build_chart(read_curve(lines), borders=borders)
    assert chart is not None
    assert [tick.text for tick in chart.borders] == ["projector", "upper layers", "everything"]


# --- the page -------------------------------------------------------------------------------


def _run(folder: Path, maker: Any, **alarm: Any) -> Path:
    run = maker.make_run(folder / "run")
    text = "".join(json.dumps(line) + "\n" for line in _lines())
    (run / "metrics.jsonl").write_text(text, encoding="utf-8")
    record = {"id": "gradient.zero", "step": 1200, "tower": "vision"} | alarm
    (run / "alarms.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    _stage(run, maker, PLAN["stages"])
    return run


def _stage(run: Path, maker: Any, stages: list[dict[str, Any]]) -> None:
    """Give a run these stages, with the same plan in each."""
    rows = maker.plan_record()["rows"]
    for row in rows:
        row["learning_rates"] = row["learning_rates"][:1] * len(stages)
    maker.rewrite(run / "plan.json", rows=rows, stages=stages)


def test_alarms_stand_under_the_verdict(tmp_path: Path, maker: Any, read_page: Any) -> None:
    run = _run(
        tmp_path, maker, seen="vision has no gradient", cause="Cut off.", remedy="Freeze it."
    )
    page = read_page(render_run(run).read_text(encoding="utf-8"))
    assert page.faults == []
    assert (
        "1 alarm while it trained Step 1,200: vision has no gradient. Likely cause. Cut off. "
        "Remedy. Freeze it. What was trained"
    ) in page.text


def test_a_run_without_alarms_does_not_speak_of_them(
    tmp_path: Path, maker: Any, read_page: Any
) -> None:
    page = read_page(render_run(maker.make_run(tmp_path / "run")).read_text(encoding="utf-8"))
    assert "alarm" not in page.text


def test_alarms_and_names_are_escaped(tmp_path: Path, maker: Any, read_page: Any) -> None:
    run = _run(tmp_path, maker, seen=ATTACK, cause=ATTACK, remedy=ATTACK)
    _stage(run, maker, _stages(*[ATTACK[:8]] * 3))
    lines = _lines(towers=('"><script>', *TOWERS))
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (run / "metrics.jsonl").write_text(text, encoding="utf-8")
    html = render_run(run).read_text(encoding="utf-8")
    page = read_page(html)
    assert page.faults == []
    assert len(page.scripts) == html.count("<script>") == len(SCRIPTS)
    assert "alert" not in "".join(page.scripts)
    # Names of towers and stages stand in the blocks of data too.
    assert any("\\u003cscript\\u003e" in block for block in page.blocks)
    assert not any("<" in block for block in page.blocks)
    assert ATTACK in page.text


def test_charts_are_drawn_for_both_widths(tmp_path: Path, maker: Any, read_page: Any) -> None:
    run = _run(tmp_path, maker, seen="x", cause="x", remedy="x")
    html = render_run(run).read_text(encoding="utf-8")
    # The loss and five more, wide and narrow.
    assert len(re.findall(r'<svg class="chart only-wide"', html)) == 6
    assert len(re.findall(r'<svg class="chart only-narrow"', html)) == 6
    page = read_page(html)
    assert "Gradient norm , before clipping, logarithmic" in page.text
    assert page.text.count("upper layers") >= 2
    # One chart of rates, not two.
    assert "learning rate, peak" not in page.text


def test_settings_have_the_rates_and_stages(tmp_path: Path, maker: Any, read_page: Any) -> None:
    run = _run(tmp_path, maker, seen="x", cause="x", remedy="x")
    (run / "config.yaml").write_text(
        "tuning: {vision: freeze, projector: {mode: full, learning_rate: 0.001}}\n"
        "training: {learning_rate: 0.008}\n",
        encoding="utf-8",
    )
    text = read_page(render_run(run).read_text(encoding="utf-8")).text
    assert "Learning rate 8e-3 Learning rate, projector 1e-3" in text
    assert "Stages 3: projector, upper layers, everything" in text


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_of_towers_can_be_read_on_their_ground(theme: str) -> None:
    style = render_template("style.css.j2", {})
    block = style.split("@media (prefers-color-scheme: dark)")[theme == "dark"]
    colours = dict(re.findall(r"--(\w+): (#\w{6})", block.split("}")[0]))
    assert len({colours[tower] for tower in TOWERS}) == len(TOWERS)
    for tower in TOWERS:
        # Small text: level AA of WCAG 2.
        assert _contrast(colours[tower], colours["ground"]) >= 4.5


def _contrast(first: str, second: str) -> float:
    high, low = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
