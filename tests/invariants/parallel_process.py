"""One process of updates that are to be alike on one process and on several.

Started alone or by torchrun. Arguments: a JSON file with a list of settings, and a folder, where
the first process writes ``NUMBER.pt`` for each: losses, what a tower's gradients were, and how far
every tensor moved.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from transformers import TrainerCallback

from sightline.config import Source, TrainingConfig, TuningConfig
from sightline.data import Collator, EncodedSample, ProcessorPixels, read_source
from sightline.data.batches import StepPlan
from sightline.data.blanks import Blanks
from sightline.errors import RunError
from sightline.model import (
    Checkpoint,
    attend_by_segments,
    follow_engine,
    load_weights,
    open_checkpoint,
    return_losses,
)
from sightline.preparation import make_encoder
from sightline.records import RunDirectory
from sightline.training.arguments import training_arguments
from sightline.training.parallel import shard, whole
from sightline.training.parallel.zero import announce_deepspeed
from sightline.training.steps import TrainingData
from sightline.training.trainer import SightlineTrainer
from sightline.training.unfreezing import StageWatch
from sightline.training.watching import facts_of, watch_run, watch_weights
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

    def __init__(self, steps: Any, sizes: Any, shape: Any, fault: str | None) -> None:
        super().__init__(sizes, shape)
        self._laid_out = steps
        self._division: Any = self
        self._fault = fault

    @property
    def num_steps(self) -> int:
        return len(self._laid_out)

    def samples(self, epoch: int, number: int) -> np.ndarray:
        self._slots = self._laid_out[number]
        return np.array([one for slot in self._slots for rank in slot for one in rank])

    def slots(self, samples: np.ndarray) -> Any:
        return self._slots

    def _slot(self, ranks: Any) -> Any:
        slot = super()._slot(ranks)
        if self._fault != "no_blanks":
            return slot
        return tuple(replace(one, blank_image=False, blank_video=False) for one in slot)

    def _has_media(self, slot: Any) -> bool:
        return self._fault != "unsorted" and super()._has_media(slot)


class Gradients(TrainerCallback):
    """What of the model has a gradient before the optimizer steps, and the norm of all."""

    def __init__(self, named: Any) -> None:
        self._named = named
        self.have: list[list[str]] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.have.append(
            sorted(i.name + i.factor for i in self._named if i.parameter.grad is not None)
        )


class Unscaled(SightlineTrainer):
    """A trainer that forgets that DDP and FSDP average."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        return super().compute_loss(*args, **kwargs) / WORLD


class Poisoned(SightlineTrainer):
    """A trainer whose last process gets pixels that are not numbers."""

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if RANK == WORLD - 1:
            inputs["pixel_values"][0, 0] = torch.nan
        return super().compute_loss(model, inputs, *args, **kwargs)


TRAINERS = {"scale": Unscaled, "nan": Poisoned}


def update(
    setting: dict[str, Any], checkpoint: Checkpoint, samples: list[EncodedSample], folder: Path
) -> Any:
    """Train as a setting says; what came of it."""
    how = DEFAULTS | setting
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
    plain: Any = load_weights(checkpoint.source, dtype=torch.float32)
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
    if WORLD > 1:
        PartialState(cpu=True, timeout=timedelta(seconds=8 if how["fault"] == "no_blanks" else 60))
    if how["engine"] == "fsdp" and WORLD > 1:
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
        data = replace(data, steps=LaidOut(steps, data.steps.sizes, shape, how["fault"]))
    arguments = training_arguments(training, directory=folder / "c", bf16=False, evaluates=False)
    arguments.optim, arguments.save_strategy = how["optimizer"], "no"
    pixels = ProcessorPixels(checkpoint.processor)
    stages, gradients = StageWatch(lambda *_: None), Gradients(named)
    run = RunDirectory(folder / "run")
    run.path.mkdir(parents=True, exist_ok=True)
    run.metrics.unlink(missing_ok=True)
    change = watch_weights(planned, plan, checkpoint.family)
    totals = {"num_trainable": 1, "num_parameters": 2}
    facts = facts_of(plan, totals, vocabulary=500, is_random=True)
    trainer = TRAINERS.get(how["fault"], SightlineTrainer)(
        plan=plan,
        watch=watch_run(
            run=run,
            model=planned,
            plan=plan,
            family=checkpoint.family,
            change=change,
            facts=facts,
            tell=lambda _: None,
        ),
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
    try:
        trainer.train()
    except RunError as error:
        return {"error": str(error), "rank": RANK}
    lines = [line for line in run.read_metrics() if "loss" in line] if RANK == 0 else [{}]
    kind = type(trainer.model_wrapped).__name__
    evaluated = trainer.evaluate()["eval_loss"] if how["steps"] is None else None
    history = trainer.state.log_history
    return {
        "kind": kind,
        "losses": [line["loss"] for line in history if "loss" in line],
        "norms": [float(line["grad_norm"]) for line in history if "loss" in line],
        "eval_loss": evaluated,
        "have": gradients.have,
        "norm_by_tower": [line.get("grad_norm_by_tower") for line in lines],
        "change_by_tower": lines[-1].get("weight_change_by_tower"),
        "change": {
            item.name + item.factor: whole(item.parameter) - start
            for item, start in zip(named, before, strict=True)
        },
    }


def main(settings: str, folder: str) -> None:
    given = json.loads(Path(settings).read_text(encoding="utf-8"))
    checkpoint = open_checkpoint(given["model"])
    encoder = make_encoder(checkpoint)
    source = Source(path=given["data"], allow_outside=True)
    samples = [encoder.encode(one) for one in read_source(source)]
    # The Trainer has the collector of garbage look through everything at each start.
    gc.collect()
    gc.freeze()
    for number, setting in enumerate(given["settings"]):
        found = update(setting, checkpoint, samples, Path(folder))
        if RANK == 0 or "error" in found:
            torch.save(found, Path(folder) / f"{number}{'' if RANK == 0 else '-other'}.pt")
        if RANK == 0:
            print(f"setting {number} done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
