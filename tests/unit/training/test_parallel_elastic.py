"""A run that goes on with another number of processes: a step keeps its samples."""

from __future__ import annotations

import pytest

from sightline.config import RunConfig, dump_config
from sightline.errors import RunError
from sightline.records import RunDirectory
from sightline.training.parallel.elastic import keep_step


def _config(**training) -> RunConfig:
    given = {"model": "m", "data": {"train": "t.jsonl"}, "output": "o", "training": training}
    return RunConfig.model_validate(given)


@pytest.fixture
def run(tmp_path):
    def make(num_processes: int, **training) -> RunDirectory:
        (tmp_path / "run").mkdir()
        run = RunDirectory(tmp_path / "run")
        run.config.write_text(dump_config(_config(**training)), encoding="utf-8")
        run.write_state(state="training", batches={"num_processes": num_processes})
        return run

    return make


@pytest.mark.parametrize(
    ("then", "now", "expected"),
    [(2, 1, (2, 8)), (2, 4, (2, 2)), (2, 8, (2, 1)), (2, 16, (1, 1)), (1, 2, (2, 2))],
)
def test_a_step_keeps_its_samples(run, then: int, now: int, expected) -> None:
    told: list[str] = []
    config = _config(batch_size=2, gradient_accumulation=4)
    kept = keep_step(config, run(then, batch_size=2, gradient_accumulation=4), now, told.append)
    training = kept.training
    assert (training.batch_size, training.gradient_accumulation) == expected
    assert training.batch_size * training.gradient_accumulation * now == 8 * then
    assert len(told) == 1
    assert f"{8 * then} samples: {then} processes then, {now} now" in told[0]


def test_a_number_that_does_not_divide_is_refused_with_both(run) -> None:
    config = _config(batch_size=2, gradient_accumulation=4)
    with pytest.raises(RunError, match=r"is 16 samples, over 2 processes; 3 cannot"):
        keep_step(config, run(2, batch_size=2, gradient_accumulation=4), 3, print)


@pytest.mark.parametrize(
    ("given", "now"),
    [
        ({"tokens_per_step": 4096}, 1),
        # The same number, or a step that is what it was: nothing to change, nothing to tell.
        ({"batch_size": 2, "gradient_accumulation": 4}, 2),
    ],
)
def test_what_stays_is_left_alone(run, given, now: int) -> None:
    config = _config(**given)
    assert keep_step(config, run(2, **given), now, pytest.fail) is config


def test_a_step_that_the_user_kept_is_left_alone(run) -> None:
    config = _config(batch_size=1, gradient_accumulation=16)
    made = run(2, batch_size=2, gradient_accumulation=4)
    assert keep_step(config, made, 1, pytest.fail) is config
