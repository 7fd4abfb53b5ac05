"""Entering the stages of a run while it trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sightline.errors import PlanError
from sightline.training.stages import Evaluation
from sightline.tuning import PlannedStage

if TYPE_CHECKING:
    from sightline.training.trainer import SightlineTrainer

OnStage = Callable[[int, PlannedStage, int], None]


class StageWatch(TrainerCallback):
    """Enters each stage when the one before ends.

    Args:
        on_stage: Told the number of a stage that begins, from 1, the stage, and the step.
    """

    def __init__(self, on_stage: OnStage) -> None:
        self._on_stage = on_stage
        self._trainer: SightlineTrainer | None = None

    def watch(self, trainer: SightlineTrainer) -> None:
        """The trainer whose stages these are; it is made after its callbacks."""
        self._trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        trainer, clock = self._ready()
        if clock.num_steps != state.max_steps:
            raise PlanError(
                f"the stages were laid out over {clock.num_steps} steps, and the run has "
                f"{state.max_steps}."
            )
        trainer.enter_stage()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        trainer, clock = self._ready()
        if clock.finished_step(state.global_step):
            trainer.enter_stage()
            self._on_stage(clock.index + 1, clock.stage, state.global_step)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        trainer, clock = self._ready()
        loss = (metrics or {}).get("eval_loss")
        if loss is not None and clock.evaluated(Evaluation(state.global_step, loss)):
            trainer.enter_stage()
            self._on_stage(clock.index + 1, clock.stage, state.global_step)

    def _ready(self) -> Any:
        assert self._trainer is not None
        assert self._trainer.clock is not None
        return self._trainer, self._trainer.clock
