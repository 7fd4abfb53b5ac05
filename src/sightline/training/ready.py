"""Everything before the first weight is changed: from a configuration to a model and its data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sightline.config import RunConfig
from sightline.data import Collator, PixelLoader
from sightline.model import (
    Checkpoint,
    QuantizedWeights,
    choose_dtype,
    load_weights,
    open_checkpoint,
    refuse_unquantizable,
    resolve_model,
    skeleton,
    take_raw_pixels,
    tiny_folder,
)
from sightline.preparation import PreparedData, prepare_data
from sightline.training.observer import Observer
from sightline.training.pixels import PixelProbe, compare_preparations, make_pixels
from sightline.training.stages import num_steps_of, refuse_empty_stages
from sightline.tuning import TuningPlan, quantized_modules, resolve_plan


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadyRun:
    """What a run starts from.

    Attributes:
        config: The configuration.
        checkpoint: The opened checkpoint.
        plan: The resolved plan.
        data: The data, measured and fitted.
        model: The plain model with its weights, taking raw pixels where the run does.
        quantized: Which of its weights are quantised; None where none are.
        dtype: Dtype in which it was loaded.
        pixels: How pixels are loaded.
        probe: Lean preparation beside the processor's; None where the processor prepares.
    """

    config: RunConfig
    checkpoint: Checkpoint
    plan: TuningPlan
    data: PreparedData
    model: Any
    quantized: QuantizedWeights | None
    dtype: torch.dtype
    pixels: PixelLoader
    probe: PixelProbe | None

    def collator(self, padding_side: Any = "right") -> Collator:
        """A collator of the run's samples.

        Args:
            padding_side: ``right`` for training, ``left`` for generation.
        """
        tokenizer = self.checkpoint.processor.tokenizer
        return Collator(
            pixels=self.pixels,
            rule=self.checkpoint.position_rule,
            pad_token_id=tokenizer.convert_tokens_to_ids(self.checkpoint.family.tokens.end_of_text),
            padding_side=padding_side,
        )


def get_ready(config: RunConfig, observer: Observer) -> ReadyRun:
    """Read checkpoint and data, resolve the plan, and load the weights.

    What is wrong with the plan is found before the data are read, and what is wrong with the data
    before the weights are.

    Args:
        config: The validated configuration.
        observer: Told what happens.

    Raises:
        SightlineError: See the subclasses; nothing was written but the index of the data.
    """
    observer.stage("reading the checkpoint")
    source = resolve_model(config.model, tiny_folder(config.model, Path(config.output)))
    checkpoint = open_checkpoint(source, config.data)
    architecture = skeleton(checkpoint)
    plan = resolve_plan(architecture, checkpoint.family, config.tuning, config.training)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    quantized = _quantized(architecture, plan, device)
    observer.stage("reading the data")
    data = prepare_data(config, checkpoint, observer.samples_read)
    observer.prepared(data, checkpoint)
    refuse_empty_stages(plan.stages, num_steps_of(config.training, len(data.train.samples)))
    observer.stage("loading the weights")
    dtype = choose_dtype(config.training.precision, device)
    model = load_weights(checkpoint.source, dtype=dtype, quantized=quantized, device=device)
    pixels, probe = make_pixels(config.data, checkpoint), None
    if pixels.takes_raw:
        assert checkpoint.recipes is not None
        take_raw_pixels(model, checkpoint.family, checkpoint.recipes)
        probe = compare_preparations(data.train.samples, pixels, checkpoint, model)
    return ReadyRun(
        config=config,
        checkpoint=checkpoint,
        plan=plan,
        data=data,
        model=model,
        quantized=quantized,
        dtype=dtype,
        pixels=pixels,
        probe=probe,
    )


def _quantized(
    architecture: Any, plan: TuningPlan, device: torch.device
) -> QuantizedWeights | None:
    """Which weights the plan has quantised; refused before any data are read."""
    modules = quantized_modules(architecture, plan)
    if not modules:
        return None
    refuse_unquantizable(plan.quantization, device)
    return QuantizedWeights.of(architecture, plan.quantization, modules)
