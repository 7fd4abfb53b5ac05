"""The loss curve in numbers and in shapes."""

from __future__ import annotations

from typing import Any

from sightline.report.charts import Axis, build_chart
from sightline.report.curves import LossCurve, read_curve, thinned


def _curve(*losses: float, evaluation: tuple[tuple[float, float], ...] = ()) -> LossCurve:
    points = tuple((float(step), loss) for step, loss in enumerate(losses, start=1))
    return LossCurve(loss=points, evaluation=evaluation, rate=())


def test_read_curve_tells_the_lines_apart() -> None:
    curve = read_curve(
        [
            {"step": 1, "loss": 5.0, "learning_rate": 1e-4},
            {"step": 2, "loss": 3.0, "learning_rate": 5e-5},
            {"step": 2, "eval_loss": 4.0},
        ]
    )
    assert curve.loss == ((1.0, 5.0), (2.0, 3.0))
    assert curve.evaluation == ((2.0, 4.0),)
    assert curve.rate == ((1.0, 1e-4), (2.0, 5e-5))
    assert curve.final_loss == 3.0


def test_a_step_that_was_resumed_counts_once() -> None:
    lines = [{"step": step, "loss": loss} for step, loss in ((1, 5.0), (2, 9.0), (2, 3.0))]
    assert read_curve(lines).loss == ((1.0, 5.0), (2.0, 3.0))


def test_logarithmic_only_past_two_decades() -> None:
    assert not _curve(100.0, 1.0).is_logarithmic
    assert _curve(101.0, 1.0).is_logarithmic
    assert _curve(101.0, 1.0, 0.0).is_logarithmic
    assert not _curve(0.0).is_logarithmic


def test_decades_and_round_values_as_ticks() -> None:
    decades = Axis(low=5e-4, high=8, start=100, end=0, is_logarithmic=True)
    assert [tick.text for tick in decades.ticks(5)] == ["1", "0.1", "0.01", "1e-3"]
    steps = Axis(low=1, high=50, start=0, end=49, counts=True)
    assert [(tick.at, tick.text) for tick in steps.ticks(5)] == [
        (9, "10"),
        (19, "20"),
        (29, "30"),
        (39, "40"),
        (49, "50"),
    ]


def test_two_steps_have_whole_ticks() -> None:
    chart = build_chart(_curve(2.0, 1.0))
    assert chart is not None
    assert [tick.text for tick in chart.x_ticks] == ["1", "2"]


def test_a_falling_loss_falls_in_the_drawing() -> None:
    chart = build_chart(_curve(6.0, 0.5, 6.4e-4))
    assert chart is not None
    heights = [float(point.partition(",")[2]) for point in chart.loss.points.split()]
    assert heights == sorted(heights)
    assert chart.is_logarithmic
    assert chart.loss.label == "6.4e-4"
    assert chart.summary == "Loss over steps: 6 at step 1, 6.4e-4 at step 3."


def test_labels_at_the_end_do_not_cover_each_other() -> None:
    chart = build_chart(_curve(6.0, 1.0, evaluation=((2.0, 1.01),)))
    assert chart is not None
    assert chart.evaluation is not None
    assert round(chart.loss.label_y - chart.evaluation.label_y, 1) == 14.0


def test_flat_zero_and_single_points_can_be_drawn() -> None:
    for curve in (_curve(0.0), _curve(0.0, 0.0), _curve(3.0), _curve(500.0, 0.0, 1.0)):
        assert build_chart(curve) is not None
    assert build_chart(_curve()) is None


def test_thinning_keeps_ends_and_extremes() -> None:
    points = tuple((float(step), 1.0) for step in range(5000))
    points = (*points[:2500], (2500.0, 9.0), *points[2501:])
    thin = thinned(points)
    assert len(thin) <= 700
    assert {(0.0, 1.0), (2500.0, 9.0), (4999.0, 1.0)} <= set(thin)


def test_a_long_curve_has_a_trend(maker: Any) -> None:
    long, short = (read_curve(maker.metrics_lines(steps)) for steps in (200, 50))
    assert len(long.trend) == 200
    assert short.trend == ()
