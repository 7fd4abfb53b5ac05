"""A small training that is stopped: python stopping_run.py FOLDER ACT

In FOLDER it leaves its process id, a line a step, and what it ended with.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from sightline.errors import Interrupted, StoppedError
from sightline.launching import errors_told, rank_of
from sightline.records import RunDirectory
from sightline.training.stopping import StopSignals, StopWatch

FOLDER, ACT = Path(sys.argv[1]), sys.argv[2]
RANK = rank_of(os.environ)
# Products of large matrices in a step: about a second each, in which Python runs no handler.
PRODUCTS = {"step-in-c": 1, "long-step": 20}


def say(text: str) -> None:
    with (FOLDER / f"said-{RANK}.txt").open("a") as file:
        file.write(text + "\n")


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        if ACT in PRODUCTS:
            say("in the step")
            size = torch.ones(4000, 4000, dtype=torch.float64)
            for _ in range(PRODUCTS[ACT]):
                _ = size @ size
        time.sleep(0.02)
        return {"loss": self.layer(x).square().mean()}


class Watch(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        say(f"step {state.global_step}")

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        say(f"evaluated {state.global_step}")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        say("trained")
        if ACT == "late":
            # After the last step's agreement, before the end of training is over.
            wait_for_a_signal(seconds=1)


class OurTrainer(Trainer):
    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        say(f"saving {self.state.global_step}")
        if ACT == "long-save":
            time.sleep(60)
        super()._save_checkpoint(*args, **kwargs)
        say(f"saved {self.state.global_step}")

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        say("evaluating")
        if ACT == "evaluation":
            time.sleep(1)
        return super().evaluate(*args, **kwargs)


def wait_for_a_signal(seconds: int = 60) -> None:
    say("waiting")
    time.sleep(seconds)


def train() -> None:
    run = RunDirectory(FOLDER / "run")
    rows = [{"x": torch.ones(2)} for _ in range(16)]
    with StopSignals(say) as signals:
        (FOLDER / f"{RANK}.pid").write_text(str(os.getpid()))
        if ACT == "before":
            wait_for_a_signal()
        stop = StopWatch(signals)
        steps = 2 if ACT in ("late", "export") else 100_000
        by_epoch = ACT == "epochs"
        arguments = TrainingArguments(
            output_dir=str(run.checkpoints),
            max_steps=steps,
            per_device_train_batch_size=2,
            save_strategy="epoch" if by_epoch else "steps",
            save_steps=1_000_000,
            eval_strategy="epoch" if by_epoch else "steps" if ACT == "evaluation" else "no",
            eval_steps=5,
            use_cpu=True,
            disable_tqdm=True,
            report_to="none",
        )
        trainer = OurTrainer(
            model=Model(),
            args=arguments,
            train_dataset=rows,
            eval_dataset=rows[:2],
            callbacks=[Watch(), stop],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        stop.end_if_stopped(run, trainer.state)
        say("exporting")
        if ACT == "export":
            wait_for_a_signal()


if RANK == 0:
    RunDirectory.create(FOLDER / "run")
try:
    with errors_told():
        train()
except StoppedError as error:
    say(f"stopped: {error}")
    sys.exit(error.exit_code)
except Interrupted as error:
    say("interrupted")
    sys.exit(128 + error.signum)
finally:
    if dist.is_initialized():
        dist.destroy_process_group()
