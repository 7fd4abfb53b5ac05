"""When the rates of a rehearsal go up, when they go down, and when it is learned."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from sightline.training.recall import Recall
from sightline.training.rehearsal import Rehearsal, RehearsalWatch


class _Course:
    """A watch beside a schedule, told one loss a step; there are two steps an epoch."""

    def __init__(self) -> None:
        self.rehearsal = Rehearsal(num_samples=2, max_steps=100)
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
        self.scheduler = LambdaLR(optimizer, lambda step: 1.0)
        self.watch = RehearsalWatch(self.rehearsal, None, None)  # type: ignore[arg-type]
        self.watch.watch(
            SimpleNamespace(steps_an_epoch=2, lr_scheduler=self.scheduler)  # type: ignore[arg-type]
        )
        self.state: Any = SimpleNamespace(global_step=0, log_history=[])

    def logged(self, loss: float, times: int = 10) -> float:
        """The factor of the rates after so many steps with this loss."""
        for _ in range(times):
            self.state.global_step += 1
            self.state.log_history.append({"loss": loss})
            control: Any = SimpleNamespace(should_training_stop=False)
            self.watch.on_log(None, self.state, control)  # type: ignore[arg-type]
        assert self.scheduler.base_lrs == [pytest.approx(1e-3 * self.rehearsal.rate_factor)]
        return self.rehearsal.rate_factor


def test_a_loss_that_hardly_falls_while_high_doubles_the_rates() -> None:
    course = _Course()
    assert course.logged(5.0) == 1
    assert course.logged(4.5) == 2
    assert course.logged(4.4) == 4
    # A fifth less: these rates do it.
    assert course.logged(3.4) == 4
    assert course.rehearsal.losses == pytest.approx([5.0, 4.5, 4.4, 3.4])


def test_rates_are_never_over_32_times_those_of_the_run() -> None:
    course = _Course()
    assert [course.logged(5.0) for _ in range(8)] == [1, 2, 4, 8, 16, 32, 32, 32]


def test_noise_near_the_end_and_a_loss_over_the_start_halve_them() -> None:
    course = _Course()
    course.logged(5.0)
    assert course.logged(1.0) == 1
    # Slowly, but it falls: nothing is known to be wrong.
    assert course.logged(0.95) == 1
    assert course.logged(1.1) == 0.5
    worse = _Course()
    worse.logged(5.0)
    assert worse.logged(7.0) == 0.5


def test_a_window_is_ten_steps_or_two_epochs() -> None:
    course = _Course()
    course.logged(5.0, times=9)
    assert course.rehearsal.losses == []
    course.logged(5.0, times=1)
    assert course.rehearsal.losses == [5.0]


def test_a_line_without_a_loss_is_no_step() -> None:
    course = _Course()
    course.state.log_history.append({"train_runtime": 3.0})
    course.watch.on_log(None, course.state, None)  # type: ignore[arg-type]
    assert course.watch._losses == []


@pytest.mark.parametrize(
    ("recalls", "is_learned"),
    [
        ([], False),
        ([Recall(0.005, 0, 9), Recall(0.01, 0, 9)], True),
        ([Recall(0.005, 0, 9), Recall(0.011, 0, 9)], False),
        ([Recall(0.005, 1, 9)], False),
    ],
)
def test_learned_is_every_token_of_every_sample(recalls: list[Recall], is_learned: bool) -> None:
    rehearsal = Rehearsal(num_samples=2, max_steps=100, recalls=recalls)
    assert rehearsal.is_learned is is_learned
