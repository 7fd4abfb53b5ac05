"""What is watched while a run trains."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sightline.errors import RunError
from sightline.records import append_jsonl
from sightline.tuning import named_parameters

_KEPT = ("loss", "eval_loss", "grad_norm")


class MetricsWriter(TrainerCallback):
    """Writes every logged step to ``metrics.jsonl`` and stops at a loss that is not a number."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._began = time.monotonic()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        logs = logs or {}
        loss = logs.get("loss", logs.get("eval_loss"))
        if loss is None:
            return
        if not math.isfinite(float(loss)):
            raise RunError(
                f"the loss is {loss} at step {state.global_step}. Lower training.learning_rate, "
                "or train in fp32 (training.precision)."
            )
        if state.is_world_process_zero:
            entry: dict[str, Any] = {
                "step": state.global_step,
                "epoch": round(float(state.epoch or 0.0), 4),
            }
            entry |= {key: float(logs[key]) for key in _KEPT if key in logs}
            if "learning_rate" in logs:
                # The Trainer logs the first group's rate; towers differ, the highest counts.
                rates = [group["lr"] for group in kwargs["optimizer"].param_groups]
                entry["learning_rate"] = float(max(rates))
            entry["seconds"] = round(time.monotonic() - self._began, 3)
            append_jsonl(self._path, entry)


class GradientWatch(TrainerCallback):
    """Remembers which trainable tensors never received a gradient."""

    def __init__(self) -> None:
        self._waiting: dict[str, torch.nn.Parameter] | None = None
        self.num_watched = 0

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: torch.nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        if self._waiting is None:
            assert model is not None
            self._waiting = {
                f"{item.name}{'.lora' if item.is_adapter else ''}.{index}": item.parameter
                for index, item in enumerate(named_parameters(model))
                if item.parameter.requires_grad
            }
            self.num_watched = len(self._waiting)
        reached = [
            name
            for name, parameter in self._waiting.items()
            if parameter.grad is not None and bool(parameter.grad.any())
        ]
        for name in reached:
            del self._waiting[name]

    @property
    def without_gradient(self) -> list[str]:
        """Names of trainable tensors that no step reached."""
        return sorted(self._waiting or {})


class ProgressBar(TrainerCallback):
    """One line with rate, loss and time left; nothing when the output is not a terminal."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[loss]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task: Any = None
        self._loss = ""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._progress.start()
        self._task = self._progress.add_task(
            "training", total=state.max_steps, completed=state.global_step, rate="", loss=""
        )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        speed = self._progress.tasks[self._task].speed
        rate = f"{speed:.2f} steps/s" if speed else ""
        self._progress.update(self._task, completed=state.global_step, rate=rate, loss=self._loss)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if logs and "loss" in logs:
            self._loss = f"loss {float(logs['loss']):.4g}"

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._progress.stop()
