"""Curves of a running run: what is new, what is whole, and what was taken back."""

from __future__ import annotations

import math
import time

from sightline.report.growing import NUM_POINTS, GrowingCurves


def _line(step: int, **values: object) -> dict[str, object]:
    return {"step": step, "loss": 10.0 / (step + 1)} | values


def test_every_number_has_its_curve() -> None:
    curves = GrowingCurves()
    curves.add(
        [
            _line(
                1,
                grad_norm=2.0,
                grad_norm_by_tower={"vision": 0.5},
                learning_rate_by_tower={"head": 0},
                weight_change_by_tower={"language": 1e-3},
                memory_mib=900.5,
                media=4,
            ),
            {"step": 1, "eval_loss": 3.0, "eval_map": 0.25},
        ]
    )
    assert curves.whole() == {
        "loss": ((1.0, 5.0),),
        "grad_norm": ((1.0, 2.0),),
        "grad_norm/vision": ((1.0, 0.5),),
        "learning_rate/head": ((1.0, 0.0),),
        "weight_change/language": ((1.0, 1e-3),),
        "memory_mib": ((1.0, 900.5),),
        "eval_loss": ((1.0, 3.0),),
        "eval_map": ((1.0, 0.25),),
    }


def test_what_is_new_is_what_came_after() -> None:
    curves = GrowingCurves()
    curves.add([_line(1), {"step": 1, "eval_loss": 2.0}])
    seen = curves.num_lines
    assert curves.since(seen) == {}
    curves.add([_line(2), _line(3)])
    assert curves.since(seen) == {"loss": ((2.0, 10 / 3), (3.0, 2.5))}
    assert curves.num_lines == 4


def test_steps_that_are_done_again_take_the_place_of_the_first() -> None:
    curves = GrowingCurves()
    curves.add([_line(step) for step in (1, 2, 3)])
    generation = curves.generation
    curves.add([_line(4)])
    assert curves.generation == generation
    curves.add([_line(2, loss=0.5)])
    assert curves.generation == generation + 1
    assert curves.whole()["loss"] == ((1.0, 5.0), (2.0, 0.5))


def test_another_process_has_another_generation() -> None:
    assert len({GrowingCurves().generation for _ in range(8)}) > 1


def test_what_is_not_finite_is_left_out() -> None:
    curves = GrowingCurves()
    curves.add([_line(1, loss=math.nan), _line(2, loss=None), _line(3, loss="high")])
    assert curves.whole() == {}


def test_a_long_run_stays_small_and_keeps_its_extremes() -> None:
    curves = GrowingCurves()
    curves.add([_line(step, loss=1.0) for step in range(1, 50_001)])
    curves.add([_line(50_001, loss=99.0), _line(50_002, loss=-3.0)])
    curves.add([_line(step, loss=1.0) for step in range(50_003, 100_001)])
    points = curves.whole()["loss"]
    assert len(points) <= NUM_POINTS + 2
    assert {(50_001.0, 99.0), (50_002.0, -3.0)} <= set(points)
    began = time.perf_counter()
    curves.add([_line(100_001)])
    assert curves.since(curves.num_lines - 1) == {"loss": ((100_001.0, 10 / 100_002),)}
    assert time.perf_counter() - began < 0.05
