"""One process of updates that are to be alike on one process and on several.

Started alone or by torchrun. Arguments: a JSON file with a list of settings, and a folder, where
the first process writes ``NUMBER.pt`` for each: losses, what a tower's gradients were, and how far
every tensor moved.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from sightline.config import Source, TrainingConfig, TuningConfig
from sightline.data import Collator, EncodedSample, ProcessorPixels, read_source
from sightline.data.batches import StepPlan
from sightline.data.blanks import Blanks
from sightline.model import (
    attend_by_segments,
    follow_engine,
    load_weights,
    open_checkpoint,
    return_losses,
)
from sightline.preparation import make_encoder
from sightline.training.arguments import training_arguments
from sightline.training.parallel import shard, whole
from sightline.training.parallel.zero import announce_deepspeed
from sightline.training.steps import TrainingData
from sightline.training.trainer import SightlineTrainer
from sightline.training.unfreezing import StageWatch
from sightline.tuning import apply_plan, resolve_plan, trained_parameters

WORLD, RANK = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
DEFAULTS: dict[str, Any] = {
    # Samples by their number in the data file, as steps of slots of ranks.
    "steps": None,
    "split": (8, 1),
    "samples": None,
    "packed": True,
    "tuning": {"language": "lora", "projector": "full", "vision": "full"},
    "engine": "ddp",
    "checkpointing": False,
    "optimizer": "sgd",
    "rate": 0.5,
    "clip": 1e9,
    "max_steps": 1,
    "fault": None,
}


class LaidOut(StepPlan):
    """Steps that a test lays out itself: [step][slot][rank] of numbers of samples."""

    def __init__(self, steps: Any, sizes: Any, shape: Any) -> None:
        super().__init__(sizes, shape)
        self._laid_out = steps
        self._division: Any = self

    @property
    def num_steps(self) -> int:
        return len(self._laid_out)

    def samples(self, epoch: int, number: int) -> np.ndarray:
        self._slots = self._laid_out[number]
        return np.array([one for slot in self._slots for rank in slot for one in rank])

    def slots(self, samples: np.ndarray) -> Any:
        return self._slots


class Gradients(TrainerCallback):
    """What of the model has a gradient before the optimizer steps, and the norm of all."""

    def __init__(self, named: Any) -> None:
        self._named = named
        self.have: list[list[str]] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.have.append(
            sorted(i.name + i.factor for i in self._named if i.parameter.grad is not None)
        )


class FaultyTrainer(SightlineTrainer):
    """A trainer that forgets that DDP and FSDP average."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        return super().compute_loss(*args, **kwargs) / WORLD


def update(setting: dict[str, Any], model: str, samples: list[EncodedSample], folder: Path) -> Any:
    how = DEFAULTS | setting
    checkpoint = open_checkpoint(model)
    batch_size, accumulation = how["split"]
    training = TrainingConfig.model_validate(
        {
            "batch_size": batch_size,
            "gradient_accumulation": accumulation,
            "max_steps": how["max_steps"],
            "learning_rate": how["rate"],
            "scheduler": "constant",
            "warmup_ratio": 0.0,
            "max_grad_norm": how["clip"],
            "gradient_checkpointing": how["checkpointing"],
            "parallel": how["engine"],
        }
    )
    announce_deepspeed(training)
    torch.manual_seed(0)
    plain: Any = load_weights(model, dtype=torch.float32)
    attend_by_segments(plain, checkpoint.family)
    follow_engine(plain, checkpoint.position_rule, check_given=False)
    plan = resolve_plan(
        plain, checkpoint.family, TuningConfig.model_validate(how["tuning"]), training
    )
    planned: Any = apply_plan(return_losses(plain), plan)
    for item in trained_parameters(planned, plan):
        if item.factor == "B":
            # From zero, A would have no gradient in the first step.
            torch.nn.init.normal_(item.parameter, std=0.1)
    if how["engine"] == "fsdp" and WORLD > 1:
        from accelerate import PartialState

        PartialState(cpu=True)
        shard(planned, checkpoint.family, dtype=torch.float32)
    named = trained_parameters(planned, plan)
    before = [whole(item.parameter).clone() for item in named]
    chosen = samples if how["samples"] is None else [samples[one] for one in how["samples"]]
    data = TrainingData.of(chosen, training, packed=how["packed"])
    if how["steps"] is not None:
        steps = how["steps"]
        if WORLD == 1:
            steps = [[[one] for slot in step for one in slot] for step in steps]
        shape = replace(data.steps.shape, num_ranks=WORLD)
        data = replace(data, steps=LaidOut(steps, data.steps.sizes, shape))
    arguments = training_arguments(training, directory=folder / "c", bf16=False, evaluates=False)
    arguments.optim, arguments.save_strategy = how["optimizer"], "no"
    pixels = ProcessorPixels(checkpoint.processor)
    stages, gradients = StageWatch(lambda *_: None), Gradients(named)
    trainer_class = FaultyTrainer if how["fault"] == "scale" else SightlineTrainer
    trainer = trainer_class(
        plan=plan,
        model=planned,
        args=arguments,
        data=data,
        eval_data=data if how["steps"] is None else None,
        collator=Collator(
            pixels=pixels,
            rule=checkpoint.position_rule,
            pad_token_id=0,
            packs=how["packed"],
            blanks=Blanks(
                checkpoint.position_rule,
                checkpoint.preprocessing,
                takes_raw=pixels.takes_raw,
                filler=0,
            ),
        ),
        callbacks=[stages, gradients],
    )
    stages.watch(trainer)
    trainer.train()
    kind = type(trainer.model_wrapped).__name__
    evaluated = trainer.evaluate()["eval_loss"] if how["steps"] is None else None
    history = trainer.state.log_history
    return {
        "kind": kind,
        "losses": [line["loss"] for line in history if "loss" in line],
        "norms": [float(line["grad_norm"]) for line in history if "loss" in line],
        "eval_loss": evaluated,
        "have": gradients.have,
        "change": {
            item.name + item.factor: whole(item.parameter) - start
            for item, start in zip(named, before, strict=True)
        },
    }


def main(settings: str, folder: str) -> None:
    given = json.loads(Path(settings).read_text(encoding="utf-8"))
    encoder = make_encoder(open_checkpoint(given["model"]))
    source = Source(path=given["data"], allow_outside=True)
    samples = [encoder.encode(one) for one in read_source(source)]
    for number, setting in enumerate(given["settings"]):
        found = update(setting, given["model"], samples, Path(folder))
        if RANK == 0:
            torch.save(found, Path(folder) / f"{number}.pt")
            print(f"setting {number} done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
