"""When a checkpoint is written: after everything else of its step.

At the last step of an epoch, and of the run, the Trainer saves first and evaluates afterwards: a
run that goes on from such a checkpoint never makes that evaluation. Here the checkpoint waits for
it. A run that is stopped in the middle of an epoch does not evaluate as at its end, for a run that
is not stopped would not; and where a stop took an evaluation away, the checkpoint says so.
"""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy


class SaveLast(TrainerCallback):
    """Puts off the checkpoint of an epoch's last step until the epoch is over."""

    def __init__(self) -> None:
        self._is_put_off = False
        self._is_over = False

    def asked(self, state: TrainerState, control: TrainerControl) -> None:
        """Ask for a checkpoint of the present step.

        Args:
            state: The Trainer's state.
            control: The Trainer's control.
        """
        if not self._is_over and _ends(state):
            self._is_put_off = True
        else:
            control.should_save = True

    def begin_anew(self, control: TrainerControl) -> None:
        """Ask for an evaluation that a stop took away, and a checkpoint after it.

        Args:
            control: The Trainer's control.
        """
        self._is_over = True
        control.should_evaluate = control.should_save = True

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._is_over = False

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._is_put_off = self._is_over = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if control.should_save:
            control.should_save = False
            self.asked(state, control)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._is_over = True
        if not _ends(state):
            control.should_evaluate = control.should_save = False
        elif self._is_put_off:
            control.should_save = True


def is_evaluation_due(args: TrainingArguments, state: TrainerState) -> bool:
    """Whether a run that is not stopped evaluates at the present step, and this one has not yet.

    Args:
        args: The Trainer's arguments.
        state: Its state.
    """
    if args.eval_strategy == IntervalStrategy.NO:
        return False
    is_due = state.global_step >= state.max_steps
    if args.eval_strategy == IntervalStrategy.STEPS:
        is_due = is_due or state.global_step % state.eval_steps == 0
    else:
        is_due = is_due or _ends(state)
    return is_due and not any(
        line.get("step") == state.global_step and "eval_loss" in line for line in state.log_history
    )


def _ends(state: TrainerState) -> bool:
    """Whether the present step is the last of its epoch, or of the run."""
    epoch = float(state.epoch or 0.0)
    return epoch.is_integer() or state.global_step >= state.max_steps
