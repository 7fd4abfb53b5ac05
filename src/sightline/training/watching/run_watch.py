"""The callback that watches a run: metrics, alarms, and the end at what is not finite."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sightline.errors import RunError
from sightline.records import RunDirectory, append_jsonl
from sightline.training.alarms import Alarm, Alarms, RunFacts
from sightline.training.watching.gradients import (
    TowerParameters,
    before_clipping,
    gradient_norms,
    learning_rates,
)
from sightline.training.watching.guard import LossOf, NonFiniteGuard
from sightline.training.watching.metrics import BY_TOWER, metrics_line
from sightline.training.watching.throughput import Throughput, memory_mib
from sightline.training.watching.weight_change import WeightChange


class RunWatch(TrainerCallback):
    """Watches a run.

    The trainer hands it every micro-batch (`saw`), the loss of each (`check_losses`) and every
    dictionary that it logs (`fill`): trackers are told before callbacks of ours, so what they are
    to have must be in the dictionary before.

    Args:
        run: The run directory; ``metrics.jsonl`` and ``alarms.jsonl`` are written.
        model: The planned model.
        towers: Parameters that train in any stage, by tower.
        change: Measures how far the weights have moved.
        facts: What the alarms know of the run.
        tell: Told of every alarm at once.
        clock: Seconds, for tests.
    """

    def __init__(
        self,
        *,
        run: RunDirectory,
        model: nn.Module,
        towers: TowerParameters,
        change: WeightChange,
        facts: RunFacts,
        tell: Callable[[Alarm], None] = lambda alarm: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run = run
        self._towers = towers
        self._change = change
        self._facts = facts
        self._stage: Callable[[], int] = lambda: 1
        self._hides_gradients: Callable[[], bool] = lambda: False
        self._tell = tell
        self._clock = clock
        self._began = clock()
        self._throughput = Throughput(clock)
        self._guard = NonFiniteGuard(model, self._raise)
        self._alarms = Alarms(facts)
        self._norms: dict[str, float] = {}
        self._rates: dict[str, float] = {}
        self._step, self._last_step = 0, 0
        self._trained_stage = 1

    def attach(
        self,
        loss_of: LossOf,
        stage: Callable[[], int],
        hides_gradients: Callable[[], bool] = lambda: False,
    ) -> None:
        """What only the trainer knows, which is made after this.

        Args:
            loss_of: How a micro-batch's loss is computed, for one that has to be run again.
            stage: Number of the stage that trains now, from 1.
            hides_gradients: Whether the engine steps before anyone can look at gradients.
        """
        self._hides_gradients = hides_gradients
        self._guard.loss_of = loss_of
        self._stage = stage

    def saw(self, batch: Mapping[str, Any], num_tokens: Any) -> None:
        """A micro-batch is about to be trained on."""
        self._throughput.saw(batch)
        self._guard.saw(batch, num_tokens)

    def check_losses(self, losses: Sequence[torch.Tensor]) -> None:
        """Refuse the losses of a step's micro-batches where one is not finite.

        Raises:
            RunError: It names the module where it began.
        """
        self._guard.check_losses(losses, self._step + 1)

    def fill(self, logs: dict[str, Any]) -> dict[str, Any]:
        """What the Trainer logs with what is watched, flat, for every tracker.

        Args:
            logs: The Trainer's dictionary.
        """
        if "loss" not in logs:
            return logs
        values: dict[str, Any] = dict(logs)
        norms = self._norms
        if "grad_norm" in logs:
            norms = before_clipping(norms, float(logs["grad_norm"]))
        # A stage ends before its last step is logged.
        is_border = self._stage() != self._trained_stage or self._step >= self._last_step
        changes = self._change.by_tower(always=is_border) or {}
        by_tower = (norms, changes, self._rates)
        for name, found in zip(BY_TOWER, by_tower, strict=True):
            values |= {f"{name}/{tower}": value for tower, value in found.items()}
        if self._rates:
            # The Trainer logs the first group's rate; towers differ, the highest counts.
            values["learning_rate"] = max(self._rates.values())
        values |= self._throughput.take() | {"stage": self._trained_stage}
        if (memory := memory_mib()) is not None:
            values["memory_mib"] = memory
        return values

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._step, self._last_step = state.global_step, state.max_steps
        self._facts = replace(self._facts, warmup_steps=args.get_warmup_steps(state.max_steps))
        earlier = self._run.read_metrics() if state.global_step else ()
        self._alarms = Alarms(self._facts, earlier)
        self._throughput.paused()

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        optimizer: torch.optim.Optimizer | None = None,
        **kwargs: Any,
    ) -> None:
        self._trained_stage = self._stage()
        self._norms = {} if self._hides_gradients() else gradient_norms(self._towers)
        self._guard.check_gradients(self._norms, state.global_step + 1)
        # Here and not when it is logged: by then the schedule has set the rates of the next step.
        self._rates = learning_rates(optimizer) if optimizer is not None else {}

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._step = state.global_step
        self._throughput.step_ended()
        self._guard.step_ended()

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._throughput.paused()

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._throughput.paused()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        line = metrics_line(
            logs or {},
            step=state.global_step,
            epoch=float(state.epoch or 0.0),
            seconds=self._clock() - self._began,
        )
        if line is None:
            return
        if not math.isfinite(line.get("eval_loss", 0.0)):
            raise RunError(
                f"the validation loss is {line['eval_loss']} at step {state.global_step}. Lower "
                "training.learning_rate, or train in fp32 (training.precision)."
            )
        if state.is_world_process_zero:
            append_jsonl(self._run.metrics, line)
            for alarm in self._alarms.update(line):
                self._raise(alarm)

    def _raise(self, alarm: Alarm) -> None:
        append_jsonl(self._run.alarms, alarm.record())
        self._tell(alarm)
