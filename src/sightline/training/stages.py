"""Stages of a run: when one ends, and what the learning rates are in it.

Where a run stands in its stages follows from its step and its evaluations alone. Both are in every
checkpoint, so a run that is resumed in the middle of a stage goes on in that stage.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from sightline.config import TrainingConfig
from sightline.errors import PlanError
from sightline.tuning import PlannedStage, TuningPlan

Rates = tuple[float | None, ...]


class Evaluation(NamedTuple):
    """A validation loss and the step after which it was measured."""

    step: int
    loss: float


class StageClock:
    """Which stage a run is in.

    Args:
        stages: The plan's stages.
        num_steps: Optimizer steps of the whole run.
    """

    def __init__(self, stages: Sequence[PlannedStage], num_steps: int) -> None:
        self._stages = stages
        self.num_steps = num_steps
        self.entered = [0]
        """Step at which each stage began, of the stages that began."""
        self._best = math.inf
        self._num_worse = 0

    @property
    def index(self) -> int:
        """The present stage, 0-based."""
        return len(self.entered) - 1

    @property
    def stage(self) -> PlannedStage:
        """The present stage."""
        return self._stages[self.index]

    def finished_step(self, step: int) -> bool:
        """Tell that a step is done.

        Args:
            step: Steps done so far.

        Returns:
            Whether another stage began.
        """
        began = False
        while (border := border_of(self.stage, self.num_steps)) is not None and step >= border:
            if self.index == len(self._stages) - 1:
                break
            # Told late, as in a replay, a stage still ended where it ended.
            self._advance(max(border, self.entered[-1]))
            began = True
        return began

    def evaluated(self, evaluation: Evaluation) -> bool:
        """Tell a validation loss.

        Returns:
            Whether another stage began.
        """
        if not self.stage.plateau or self.index == len(self._stages) - 1:
            return False
        if evaluation.loss < self._best * (1 - self.stage.min_delta):
            self._best, self._num_worse = evaluation.loss, 0
            return False
        self._num_worse += 1
        if self._num_worse < self.stage.patience:
            return False
        self._advance(evaluation.step)
        # The next one may end at a step that is past already.
        self.finished_step(evaluation.step)
        return True

    def replay(self, step: int, evaluations: Iterable[Evaluation]) -> None:
        """Go through what happened up to a step, as it happened."""
        self.__init__(self._stages, self.num_steps)
        for evaluation in sorted(evaluations):
            if evaluation.step <= step:
                self.finished_step(evaluation.step)
                self.evaluated(evaluation)
        self.finished_step(step)

    def _advance(self, step: int) -> None:
        self.entered.append(step)
        self._best, self._num_worse = math.inf, 0


def border_of(stage: PlannedStage, num_steps: int) -> int | None:
    """Step after which a stage ends; None where it ends at a plateau, or with the run."""
    if stage.step is not None:
        return stage.step
    return round(stage.share * num_steps) if stage.share is not None else None


def refuse_empty_stages(stages: Sequence[PlannedStage], num_steps: int) -> None:
    """Refuse stages that this run is too short for.

    Args:
        stages: The plan's stages.
        num_steps: Optimizer steps of the whole run.

    Raises:
        PlanError: A stage would have no step.
    """
    start = 0
    for index, stage in enumerate(stages[:-1]):
        border = border_of(stage, num_steps)
        if border is None:
            continue
        if not start < border < num_steps:
            raise PlanError(
                f"tuning.stages[{index}] ends at step {border}, but it begins at {start} and the "
                f"run has {num_steps} steps: "
                + ("nothing is left for what follows." if border > start else "it has no step.")
                + "\nMove its until, or train longer (training.epochs, training.max_steps)."
            )
        start = border


def num_steps_of(training: TrainingConfig, steps_an_epoch: int) -> int:
    """Optimizer steps of a run, as the Trainer counts them.

    Args:
        training: The configuration's section.
        steps_an_epoch: Steps that an epoch is planned in.
    """
    if training.max_steps is not None:
        return training.max_steps
    return math.ceil(training.epochs * steps_an_epoch)


class RateCourse:
    """Learning rates over the steps of a run.

    A group keeps to the run's one schedule, times the rate that it has in the present stage. What
    joins at the beginning of a later stage starts with an optimizer that knows nothing of it, so
    its rate rises over as many steps as at the beginning of the run.

    Args:
        clock: Where the run stands.
        base: The schedule: share of the peak rate at a step, warm-up included.
        num_warmup_steps: Steps in which a rate rises.
    """

    def __init__(
        self, clock: StageClock, base: Callable[[int], float], num_warmup_steps: int
    ) -> None:
        self._clock = clock
        self._base = base
        self._num_warmup_steps = num_warmup_steps

    def rate(self, rates: Rates, step: int) -> float:
        """Learning rate of a group at a step.

        Args:
            rates: Its peak rate in each stage; None where it does not train.
            step: Steps done so far.
        """
        now = self._clock.index
        peak = rates[now]
        if peak is None:
            return 0.0
        joined = now
        while joined > 0 and rates[joined - 1] is not None:
            joined -= 1
        rate = peak * self._base(step)
        if joined > 0 and self._num_warmup_steps > 0:
            since = step - self._clock.entered[joined] + 1
            rate *= min(1.0, since / self._num_warmup_steps)
        return rate


def schedule_record(
    plan: TuningPlan,
    base: Callable[[int], float],
    *,
    num_steps: int,
    num_warmup_steps: int,
    num_points: int = 120,
) -> dict[str, object]:
    """The learning rates of every tower over the run, to be drawn.

    A stage that ends at a plateau has no known end; it is drawn to the end of the run.

    Args:
        plan: The resolved plan.
        base: The schedule: share of the peak rate at a step.
        num_steps: Optimizer steps of the whole run.
        num_warmup_steps: Steps in which a rate rises.
        num_points: Points of every curve, at most, with two more at every border.
    """
    clock = StageClock(plan.stages, num_steps)
    course = RateCourse(clock, base, num_warmup_steps)
    ends = [border_of(stage, num_steps) for stage in plan.stages]
    wanted = {round(i * (num_steps - 1) / max(num_points - 1, 1)) for i in range(num_points)}
    wanted |= {step for end in ends if end is not None for step in (end - 1, end)}
    highest: dict[str, dict[Rates, None]] = {}
    for module in plan.modules:
        if module.mode != "freeze":
            highest.setdefault(module.place.tower, {})[module.learning_rates] = None
    towers: dict[str, list[tuple[int, float]]] = {tower: [] for tower in highest}
    for step in sorted(step for step in wanted if 0 <= step < num_steps):
        clock.finished_step(step)
        for tower, kinds in highest.items():
            towers[tower].append((step, max(course.rate(rates, step) for rates in kinds)))
    return {"num_steps": num_steps, "entered": list(clock.entered), "towers": towers}
