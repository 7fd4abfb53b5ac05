"""When a checkpoint is written: after everything else of its step.

At the last step of an epoch, and of the run, the Trainer saves first and evaluates afterwards: a
run that goes on from such a checkpoint never makes that evaluation. Here the checkpoint waits for
it. And a run that is stopped in the middle of an epoch does not evaluate as at its end, which a run
that is not stopped would not do there.
"""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


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


def _ends(state: TrainerState) -> bool:
    """Whether the present step is the last of its epoch, or of the run."""
    epoch = float(state.epoch or 0.0)
    return epoch.is_integer() or state.global_step >= state.max_steps
