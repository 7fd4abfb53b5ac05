"""One update is the same, however its samples are cut into micro-batches, packed or padded."""

from __future__ import annotations

import pytest
import torch
from transformers import Trainer

from sightline.config import TrainingConfig, TuningConfig
from sightline.data import Collator, ProcessorPixels, read_source
from sightline.model import (
    attend_by_segments,
    follow_engine,
    load_weights,
    open_checkpoint,
    return_losses,
)
from sightline.preparation import make_encoder
from sightline.training.arguments import training_arguments
from sightline.training.steps import TrainingData
from sightline.training.trainer import SightlineTrainer
from sightline.tuning import apply_plan, resolve_plan

NUM_SAMPLES = 8
SPLITS = ((8, 1), (4, 2), (2, 4), (1, 8))


@pytest.fixture(scope="module")
def bench(tiny_folder, shapes_folder):
    from sightline.config import Source

    checkpoint = open_checkpoint(str(tiny_folder("qwen2_5_vl")))
    encoder = make_encoder(checkpoint)
    source = Source(path=str(shapes_folder / "train.jsonl"))
    samples = [encoder.encode(c) for c in read_source(source)][:NUM_SAMPLES]
    # Answers of unequal length: a mean of means would weigh their tokens differently.
    assert len({sample.num_supervised_tokens for sample in samples}) > 1
    return checkpoint, samples


def _update(
    bench, tmp_path, split, trainer_class=SightlineTrainer, *, packed: bool = False
) -> tuple[float, dict[str, torch.Tensor]]:
    checkpoint, samples = bench
    collator = Collator(
        pixels=ProcessorPixels(checkpoint.processor),
        rule=checkpoint.position_rule,
        pad_token_id=0,
        packs=packed,
    )
    batch_size, accumulation = split
    training = TrainingConfig.model_validate(
        {
            "batch_size": batch_size,
            "gradient_accumulation": accumulation,
            "max_steps": 1,
            "learning_rate": 0.5,
            "scheduler": "constant",
            "warmup_ratio": 0.0,
            "max_grad_norm": 1e9,
            "gradient_checkpointing": False,
        }
    )
    model = load_weights(checkpoint.source, dtype=torch.float32)
    attend_by_segments(model, checkpoint.family)
    follow_engine(model, checkpoint.position_rule)
    if trainer_class is SightlineTrainer:
        return_losses(model)
    first_layer = {"mode": "freeze", "parts": [{"blocks": 0, "mode": "full"}]}
    tuning = TuningConfig.model_validate({"language": first_layer, "projector": "freeze"})
    plan = resolve_plan(model, checkpoint.family, tuning, training)
    model = apply_plan(model, plan)
    before = {n: p.clone() for n, p in model.named_parameters() if p.requires_grad}
    arguments = training_arguments(training, directory=tmp_path, bf16=False, evaluates=False)
    arguments.optim = "sgd"
    arguments.save_strategy = "no"
    if trainer_class is SightlineTrainer:
        data = TrainingData.of(samples, training, packed=packed)
        trainer = SightlineTrainer(
            plan=plan, model=model, args=arguments, data=data, collator=collator
        )
    else:
        arguments.gradient_accumulation_steps = accumulation
        trainer = Trainer(
            model=model, args=arguments, train_dataset=samples, data_collator=collator
        )
    loss = trainer.train().training_loss
    return loss, {
        name: parameter.detach() - before[name]
        for name, parameter in model.named_parameters()
        if name in before
    }


def _distance(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    gap = sum(float((first[name] - second[name]).norm() ** 2) for name in first) ** 0.5
    return gap / sum(float(second[name].norm() ** 2) for name in second) ** 0.5


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_the_update_does_not_depend_on_the_split(bench, tmp_path, packed: bool) -> None:
    loss, whole = _update(bench, tmp_path, SPLITS[0])
    for split in SPLITS[1 - packed :]:
        other_loss, update = _update(bench, tmp_path, split, packed=packed)
        assert other_loss == pytest.approx(loss, rel=1e-5), split
        assert _distance(update, whole) < 1e-5, split


def test_the_plain_trainer_fails_the_same_comparison(bench, tmp_path) -> None:
    """The planted fault is the Trainer itself on this class: a mean of means."""
    _, whole = _update(bench, tmp_path, SPLITS[0], Trainer)
    assert _distance(_update(bench, tmp_path, SPLITS[-1], Trainer)[1], whole) > 1e-2
