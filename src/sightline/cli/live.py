"""The live view of a training: a bar and a small table in a terminal, a few lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sightline.report.live import status_lines, step_line
from sightline.report.quantities import number_text

_NUM_LINES = 10
# A run of seconds needs no lines on the way.
_SECONDS_BETWEEN = 5.0


class LiveView(TrainerCallback):
    """Progress with the figures of the last logged step.

    Args:
        console: Where it is shown; where it is no terminal, at most ten lines are printed.
        num_stages: Stages of the run.
        begins: Called when training begins, to take away what moved before.
        clock: Seconds, for tests.
    """

    def __init__(
        self,
        console: Console,
        num_stages: int = 1,
        begins: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._num_stages = num_stages
        self._begins = begins
        self._clock = clock
        self._bar = Progress(
            TextColumn("training "),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[loss]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=console,
            auto_refresh=False,
        )
        self._live: Live | None = None
        self._logs: dict[str, Any] = {}
        self._held_out: float | None = None
        self._first_step, self._began, self._printed, self._tenth = 0, 0.0, 0.0, 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._begins()
        self._first_step, self._began = state.global_step, self._clock()
        self._printed = self._began
        self._tenth = _NUM_LINES * state.global_step // state.max_steps
        self._task = self._bar.add_task(
            "training", total=state.max_steps, completed=state.global_step, rate="", loss=""
        )
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=self._view,
                console=self._console,
                refresh_per_second=4,
                transient=True,
            )
            self._live.start()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        speed = self._bar.tasks[self._task].speed
        rate = f"{speed:.2f} steps/s" if speed else ""
        loss = f"loss {number_text(float(self._logs['loss']))}" if self._logs else ""
        self._bar.update(self._task, completed=state.global_step, rate=rate, loss=loss)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        logs = logs or {}
        if "eval_loss" in logs:
            self._held_out = float(logs["eval_loss"])
        if "loss" in logs:
            self._logs = dict(logs)
            if self._live is None:
                self._print(state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the view away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _view(self) -> Group:
        lines = status_lines(self._logs, held_out=self._held_out, num_stages=self._num_stages)
        return Group(self._bar.get_renderable(), lines)

    def _print(self, state: TrainerState) -> None:
        """A line at every tenth of the run; its end is told elsewhere."""
        tenth, now = _NUM_LINES * state.global_step // state.max_steps, self._clock()
        if not self._tenth < tenth < _NUM_LINES or now - self._printed < _SECONDS_BETWEEN:
            return
        self._tenth, self._printed = tenth, now
        done = state.global_step - self._first_step
        left = (now - self._began) / done * (state.max_steps - state.global_step)
        line = step_line(
            self._logs,
            step=state.global_step,
            num_steps=state.max_steps,
            held_out=self._held_out,
            seconds=left,
        )
        self._console.print(line, soft_wrap=True)
