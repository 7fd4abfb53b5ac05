"""When a stage ends, and what the learning rates are."""

from __future__ import annotations

import pytest

from sightline.config import TrainingConfig
from sightline.errors import PlanError
from sightline.training.stages import (
    Evaluation,
    RateCourse,
    StageClock,
    num_steps_of,
    refuse_empty_stages,
)
from sightline.tuning import PlannedStage

ONE = (PlannedStage(name="the whole run"),)
THREE = (
    PlannedStage(name="a", share=0.2),
    PlannedStage(name="b", step=50),
    PlannedStage(name="c"),
)
PLATEAU = (
    PlannedStage(name="a", plateau=True, patience=2, min_delta=0.1),
    PlannedStage(name="b", step=60),
    PlannedStage(name="c"),
)


def _indices(clock: StageClock, steps: range) -> list[int]:
    found = []
    for step in steps:
        clock.finished_step(step)
        found.append(clock.index)
    return found


def test_a_run_without_stages_has_one() -> None:
    clock = StageClock(ONE, 100)
    assert _indices(clock, range(1, 101)) == [0] * 100
    assert clock.entered == [0]


def test_shares_and_steps_end_stages() -> None:
    clock = StageClock(THREE, 100)
    indices = _indices(clock, range(1, 101))
    # The steps 1 to 20 belong to the first stage: after the twentieth the second begins.
    assert (indices[18], indices[19], indices[48], indices[49]) == (0, 1, 1, 2)
    assert clock.entered == [0, 20, 50]


def test_a_plateau_ends_a_stage_after_its_patience() -> None:
    clock = StageClock(PLATEAU, 100)
    losses = [(10, 4.0), (20, 3.0), (30, 2.9), (40, 2.95)]
    began = [clock.evaluated(Evaluation(step, loss)) for step, loss in losses]
    # 2.9 is no tenth under 3.0, and 2.95 is the second that is not.
    assert began == [False, False, False, True]
    assert (clock.index, clock.entered) == (1, [0, 40])


def test_an_improvement_starts_the_patience_anew() -> None:
    clock = StageClock(PLATEAU, 100)
    for step, loss in [(10, 4.0), (20, 3.9), (30, 2.0), (40, 1.95)]:
        assert not clock.evaluated(Evaluation(step, loss))
    assert clock.evaluated(Evaluation(50, 1.9))


def test_each_plateau_has_a_best_of_its_own() -> None:
    stages = (PLATEAU[0], PLATEAU[0], PLATEAU[2])
    clock = StageClock(stages, 100)
    for step, loss in [(1, 1.0), (2, 1.0), (3, 1.0)]:
        clock.evaluated(Evaluation(step, loss))
    assert clock.entered == [0, 3]
    # What joined may cost at first: the next plateau begins with a loss of its own.
    began = [clock.evaluated(Evaluation(step, 2.0)) for step in (4, 5, 6)]
    assert (began, clock.entered) == ([False, False, True], [0, 3, 6])


def test_a_stage_whose_end_is_past_already_is_passed_over() -> None:
    clock = StageClock(PLATEAU, 100)
    clock.evaluated(Evaluation(60, 1.0))
    clock.evaluated(Evaluation(70, 1.0))
    assert clock.evaluated(Evaluation(80, 1.0))
    assert (clock.index, clock.entered) == (2, [0, 80, 80])


def test_evaluations_do_not_end_other_stages() -> None:
    clock = StageClock(THREE, 100)
    assert not any(clock.evaluated(Evaluation(step, 1.0)) for step in range(1, 20))


@pytest.mark.parametrize("stop", [1, 19, 20, 21, 40, 41, 49, 50, 59, 60, 61, 99])
@pytest.mark.parametrize("stages", [THREE, PLATEAU])
def test_a_replay_is_where_the_run_was(stages: tuple[PlannedStage, ...], stop: int) -> None:
    evaluations = [Evaluation(step, 5.0 - min(step, 20) / 10) for step in range(7, 101, 7)]
    lived, replayed = StageClock(stages, 100), StageClock(stages, 100)
    for step in range(1, stop + 1):
        lived.finished_step(step)
        for evaluation in evaluations:
            if evaluation.step == step:
                lived.evaluated(evaluation)
    replayed.replay(stop, evaluations)
    assert replayed.entered == lived.entered
    assert vars(replayed) == vars(lived)


def test_rates_follow_stage_and_schedule() -> None:
    clock = StageClock(THREE, 100)
    course = RateCourse(clock, lambda step: 1 - step / 100, num_warmup_steps=0)
    rates = (1e-3, None, 1e-4)
    seen = {}
    for step in range(100):
        clock.finished_step(step)
        seen[step] = course.rate(rates, step)
    assert seen[0] == 1e-3
    assert seen[19] == pytest.approx(1e-3 * 0.81)
    assert seen[20] == seen[49] == 0.0
    assert seen[50] == pytest.approx(1e-4 * 0.5)


def test_what_joins_later_warms_up_and_what_goes_on_does_not() -> None:
    clock = StageClock(THREE, 100)
    course = RateCourse(clock, lambda step: 1.0, num_warmup_steps=4)
    clock.finished_step(20)
    joined = [course.rate((None, 1.0, 1.0), step) for step in range(20, 26)]
    assert joined == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert course.rate((1.0, 1.0, 1.0), 20) == 1.0
    clock.finished_step(50)
    # It joined in the stage before; its warm-up is long over.
    assert course.rate((None, 1.0, 1.0), 50) == 1.0


@pytest.mark.parametrize(
    ("stages", "num_steps", "message"),
    [
        (THREE, 50, r"stages\[1\] ends at step 50, .* the run has 50 steps: nothing is left"),
        (THREE, 2, r"stages\[0\] ends at step 0, .*it has no step"),
        (
            (PlannedStage(name="a", step=30), PlannedStage(name="b", share=0.2), THREE[2]),
            100,
            r"stages\[1\] ends at step 20, but it begins at 30",
        ),
    ],
)
def test_a_run_too_short_for_its_stages_is_refused(stages, num_steps: int, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        refuse_empty_stages(stages, num_steps)
    refuse_empty_stages(THREE, 100)


@pytest.mark.parametrize(
    ("keys", "steps_an_epoch", "expected"),
    [
        ({"epochs": 3}, 3, 9),
        ({"epochs": 2.5}, 4, 10),
        ({"epochs": 2.5}, 3, 8),
        ({"max_steps": 7}, 1000, 7),
    ],
)
def test_steps_are_counted_as_the_trainer_counts_them(keys, steps_an_epoch, expected) -> None:
    assert num_steps_of(TrainingConfig.model_validate(keys), steps_an_epoch) == expected
