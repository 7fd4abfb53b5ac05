"""One update is the same, however its samples are cut into micro-batches."""

from __future__ import annotations

import pytest
import torch
from transformers import Trainer

from sightline.config import TrainingConfig, TuningConfig
from sightline.data import Collator, ProcessorPixels, read_source
from sightline.model import follow_engine, load_weights, open_checkpoint
from sightline.preparation import make_encoder
from sightline.training.arguments import training_arguments
from sightline.training.trainer import SampleDataset, SightlineTrainer
from sightline.tuning import apply_plan, resolve_plan

NUM_SAMPLES = 4
SPLITS = ((4, 1), (2, 2), (1, 4))


@pytest.fixture(scope="module")
def bench(tiny_folder, shapes_folder):
    from sightline.config import Source

    checkpoint = open_checkpoint(str(tiny_folder("qwen2_5_vl")))
    encoder = make_encoder(checkpoint)
    source = Source(path=str(shapes_folder / "train.jsonl"))
    samples = [encoder.encode(c) for c in read_source(source)][:NUM_SAMPLES]
    # Answers of unequal length: a mean of means would weigh their tokens differently.
    assert len({sample.num_supervised_tokens for sample in samples}) > 1
    collator = Collator(
        pixels=ProcessorPixels(checkpoint.processor), rule=checkpoint.position_rule, pad_token_id=0
    )
    return checkpoint, samples, collator


def _update(bench, tmp_path, split, trainer_class=SightlineTrainer) -> dict[str, torch.Tensor]:
    checkpoint, samples, collator = bench
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
    model = follow_engine(
        load_weights(checkpoint.source, dtype=torch.float32), checkpoint.position_rule
    )
    first_layer = {"mode": "freeze", "parts": [{"blocks": 0, "mode": "full"}]}
    tuning = TuningConfig.model_validate({"language": first_layer, "projector": "freeze"})
    plan = resolve_plan(model, checkpoint.family, tuning, training)
    model = apply_plan(model, plan)
    before = {n: p.clone() for n, p in model.named_parameters() if p.requires_grad}
    arguments = training_arguments(training, directory=tmp_path, bf16=False, evaluates=False)
    arguments.optim = "sgd"
    arguments.save_strategy = "no"
    trainer = trainer_class(
        **({"plan": plan} if trainer_class is SightlineTrainer else {}),
        model=model,
        args=arguments,
        train_dataset=SampleDataset(samples),
        data_collator=collator,
    )
    trainer.train()
    return {
        name: parameter.detach() - before[name]
        for name, parameter in model.named_parameters()
        if name in before
    }


def _distance(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    gap = sum(float((first[name] - second[name]).norm() ** 2) for name in first) ** 0.5
    return gap / sum(float(second[name].norm() ** 2) for name in second) ** 0.5


def test_the_update_does_not_depend_on_the_split(bench, tmp_path) -> None:
    whole = _update(bench, tmp_path, SPLITS[0])
    for split in SPLITS[1:]:
        assert _distance(_update(bench, tmp_path, split), whole) < 1e-4, split


def test_the_plain_trainer_fails_the_same_comparison(bench, tmp_path) -> None:
    """The planted fault is the Trainer itself on this class: a mean of means."""
    whole = _update(bench, tmp_path, SPLITS[0], Trainer)
    assert _distance(_update(bench, tmp_path, SPLITS[-1], Trainer), whole) > 1e-2
