"""One process of a staged run, for tests with several: started alone or by torchrun.

Arguments: model folder, data file, how (trainer, or sharded: a bare loop with FSDP2, which
accelerate offers on a GPU only), output file. Two samples make a step, on one process or on two.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from sightline.config import Source, TrainingConfig, TuningConfig
from sightline.data import Collator, EncodedSample, ProcessorPixels, read_source
from sightline.model import (
    Checkpoint,
    follow_engine,
    load_weights,
    open_checkpoint,
    return_losses,
)
from sightline.preparation import make_encoder
from sightline.training.arguments import training_arguments
from sightline.training.loss import model_loss
from sightline.training.steps import TrainingData
from sightline.training.trainer import SightlineTrainer
from sightline.training.unfreezing import StageWatch
from sightline.tuning import TuningPlan, apply_plan, enter_stage, resolve_plan, trained_parameters

BORDERS = (2, 4, 6)
STAGES = [
    {"until": BORDERS[0], "language": "freeze", "vision": "freeze"},
    {
        "until": BORDERS[1],
        "vision": "freeze",
        "language": {"parts": [{"blocks": "first 2", "mode": "freeze"}]},
    },
    {},
]
WORLD, RANK = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
RATE = 0.05


def main(folder: str, data: str, how: str, out: str) -> None:
    checkpoint = open_checkpoint(folder)
    encoder = make_encoder(checkpoint)
    samples = [encoder.encode(one) for one in read_source(Source(path=data, allow_outside=True))][
        :4
    ]
    training = TrainingConfig.model_validate(
        {
            "batch_size": 1,
            "gradient_accumulation": 2 // WORLD,
            "max_steps": BORDERS[-1],
            "learning_rate": RATE,
            "scheduler": "constant",
            "warmup_ratio": 0.0,
            "max_grad_norm": 1e9,
        }
    )
    tuning = TuningConfig.model_validate(
        {"language": "lora", "projector": "full", "vision": "full", "stages": STAGES}
    )
    torch.manual_seed(0)
    plain: Any = follow_engine(load_weights(folder, dtype=torch.float32), checkpoint.position_rule)
    return_losses(plain)
    plan = resolve_plan(plain, checkpoint.family, tuning, training)
    planned = apply_plan(plain, plan)
    run = _train if how == "trainer" else _loop
    kind = run(planned, plan, checkpoint, training, samples, Path(out).parent)
    final = {
        item.name + item.factor: _whole(item.parameter)
        for item in trained_parameters(planned, plan)
    }
    if RANK == 0:
        torch.save(final, out)
        Path(out).with_suffix(".json").write_text(json.dumps(kind), encoding="utf-8")


def _train(
    planned: Any,
    plan: TuningPlan,
    checkpoint: Checkpoint,
    training: TrainingConfig,
    samples: list[EncodedSample],
    folder: Path,
) -> str:
    arguments = training_arguments(training, directory=folder / "c", bf16=False, evaluates=False)
    arguments.optim, arguments.save_strategy = "sgd", "no"
    watch = StageWatch(lambda *_: None)
    trainer = SightlineTrainer(
        plan=plan,
        model=planned,
        args=arguments,
        data=TrainingData.of(samples, training),
        collator=_collator(checkpoint),
        callbacks=[watch],
    )
    watch.watch(trainer)
    trainer.train()
    return type(trainer.model_wrapped).__name__


def _loop(
    planned: Any,
    plan: TuningPlan,
    checkpoint: Checkpoint,
    training: TrainingConfig,
    samples: list[EncodedSample],
    folder: Path,
) -> str:
    if WORLD > 1:
        dist.init_process_group("gloo")
        mesh = init_device_mesh("cpu", (WORLD,))
        modules = checkpoint.family.modules
        model = planned.get_base_model()
        for path in (modules.vision_blocks, modules.language_blocks):
            for block in model.get_submodule(path):
                fully_shard(block, mesh=mesh)
        fully_shard(planned, mesh=mesh)
    collate: Any = _collator(checkpoint)
    # Everything is with the optimizer from the start, as in the trainer.
    parameters = [item.parameter for item in trained_parameters(planned, plan)]
    optimizer = torch.optim.SGD(parameters, lr=RATE)
    planned.train()
    for step in range(BORDERS[-1]):
        enter_stage(planned, plan, sum(step >= border for border in BORDERS[:-1]))
        pair = [samples[2 * step % 4], samples[(2 * step + 1) % 4]]
        num_tokens = sum(sample.num_supervised_tokens for sample in pair)
        for sample in pair[RANK::WORLD]:
            loss, _ = model_loss(planned, collate([sample]), num_tokens)
            # FSDP averages over processes; the count is that of the whole step.
            (loss * WORLD).backward()
        optimizer.step()
        optimizer.zero_grad()
    return type(parameters[0].data).__name__


def _collator(checkpoint: Checkpoint) -> Collator:
    pixels = ProcessorPixels(checkpoint.processor)
    return Collator(pixels=pixels, rule=checkpoint.position_rule, pad_token_id=0)


def _whole(parameter: Any) -> torch.Tensor:
    whole = parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter
    return whole.detach().clone()


if __name__ == "__main__":
    main(*sys.argv[1:])
