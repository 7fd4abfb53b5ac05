"""The proof alone: one real batch forward and back, without a run."""

from __future__ import annotations

from typing import Any

import torch
from transformers import set_seed

from sightline.config import RunConfig
from sightline.training.checkpointing import checkpoint_activations
from sightline.training.loading import plan_model
from sightline.training.observer import Observer
from sightline.training.proof import GradientProof, proof_samples, prove_gradients
from sightline.training.ready import get_ready


def prove_plan(config: RunConfig, observer: Observer) -> GradientProof:
    """Put a configuration's plan on its model and see what one real batch reaches.

    Args:
        config: The validated configuration.
        observer: Told what happens.

    Raises:
        SightlineError: The plan, the data or the weights are wrong. A plan that is not followed
            is no error: the proof says so.
    """
    ready = get_ready(config, observer)
    observer.stage("one batch forward and back")
    set_seed(config.training.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    family = ready.checkpoint.family
    model: Any = plan_model(ready.model, ready.checkpoint, ready.plan, config.training)
    if config.training.gradient_checkpointing:
        checkpoint_activations(model)
    model = model.to(device).train()
    samples, collate = proof_samples(ready.data.train.samples), ready.collator()
    batches = [
        {key: value.to(device) for key, value in collate([sample]).items()} for sample in samples
    ]
    precision = torch.autocast(device.type, torch.bfloat16, enabled=ready.dtype == torch.bfloat16)
    return prove_gradients(model, ready.plan, family, samples, batches, precision)
