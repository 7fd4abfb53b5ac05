"""Everything before the first weight is changed: from a configuration to a model and its data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sightline.config import RunConfig
from sightline.data import Collator, PixelLoader
from sightline.data.batches import StepPlan, sizes_of
from sightline.data.blanks import Blanks
from sightline.model import (
    Checkpoint,
    QuantizedWeights,
    choose_dtype,
    open_checkpoint,
    refuse_unquantizable,
    resolve_model,
    skeleton,
    tiny_folder,
)
from sightline.preparation import PlannedData, PreparedData, is_packed, prepare_data
from sightline.preparation.costs import cost_rates
from sightline.training.loading import load_model
from sightline.training.observer import Observer
from sightline.training.parallel.engine import refuse_unable_engine
from sightline.training.pixels import PixelProbe, compare_preparations, make_pixels
from sightline.training.processes import num_processes, one_after_the_first
from sightline.training.rehearsal import Rehearsal, at_once
from sightline.training.stages import num_steps_of, refuse_empty_stages
from sightline.training.steps import TrainingData, shape_of
from sightline.tuning import TuningPlan, quantized_modules, resolve_plan


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadyRun:
    """What a run starts from.

    Attributes:
        config: The configuration.
        checkpoint: The opened checkpoint.
        plan: The resolved plan.
        data: The data, measured and fitted.
        train: The training data in its steps.
        eval: The evaluation data in its steps; None where nothing is held out.
        packed: Whether samples are packed.
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
    train: TrainingData
    eval: TrainingData | None
    packed: bool
    model: Any
    quantized: QuantizedWeights | None
    dtype: torch.dtype
    pixels: PixelLoader
    probe: PixelProbe | None

    def collator(self) -> Collator:
        """The collator of training: packed where the run packs."""
        return self._collator(packs=self.packed)

    def padding_collators(self) -> tuple[Collator, Collator]:
        """Collators of a row a sample: with padding on the right, and on the left to generate."""
        return self._collator(padding_side="right"), self._collator(padding_side="left")

    def _collator(self, *, packs: bool = False, padding_side: Any = "right") -> Collator:
        checkpoint = self.checkpoint
        tokenizer = checkpoint.processor.tokenizer
        filler = tokenizer.convert_tokens_to_ids(checkpoint.family.tokens.end_of_text)
        return Collator(
            pixels=self.pixels,
            rule=checkpoint.position_rule,
            pad_token_id=filler,
            padding_side=padding_side,
            packs=packs,
            blanks=Blanks(
                checkpoint.position_rule,
                checkpoint.preprocessing,
                takes_raw=self.pixels.takes_raw,
                filler=filler,
            ),
        )


def get_ready(
    config: RunConfig, observer: Observer, rehearsal: Rehearsal | None = None
) -> ReadyRun:
    """Read checkpoint and data, resolve the plan, and load the weights.

    What is wrong with the plan is found before the data are read, and what is wrong with the data
    before the weights are.

    Args:
        config: The validated configuration.
        observer: Told what happens.
        rehearsal: Takes a few of the data, and what trains in any stage at once.

    Raises:
        SightlineError: See the subclasses; nothing was written but the index of the data.
    """
    observer.stage("reading the checkpoint")
    # One process makes what the others find: the tiny model, the index of the data.
    with one_after_the_first():
        source = resolve_model(config.model, tiny_folder(config.model, Path(config.output)))
    checkpoint = open_checkpoint(source, config.data)
    packed = is_packed(config.training.packing, checkpoint)
    architecture = skeleton(checkpoint)
    plan = resolve_plan(architecture, checkpoint.family, config.tuning, config.training)
    if rehearsal is not None:
        plan = at_once(plan)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    quantized = _quantized(architecture, plan, device)
    refuse_unable_engine(
        config.training,
        is_quantized=quantized is not None,
        num_stages=len(plan.stages),
        answers=bool(config.evaluation.metrics),
    )
    observer.stage("reading the data")
    with one_after_the_first():
        data = prepare_data(config, checkpoint, observer.samples_read)
        if rehearsal is not None:
            data = rehearsal.choose(data)
    observer.prepared(data, checkpoint)
    parts = [data.train, *([data.eval] if data.eval else [])]
    train, *held_out = _in_steps(config, checkpoint, plan, parts, packed=packed)
    num_steps = num_steps_of(config.training, train.steps.num_steps)
    refuse_empty_stages(plan.stages, num_steps)
    observer.stage("loading the weights")
    dtype = choose_dtype(config.training.precision, device)
    pixels, probe = make_pixels(config.data, checkpoint), None
    model = load_model(
        checkpoint, dtype=dtype, takes_raw=pixels.takes_raw, quantized=quantized, device=device
    )
    if pixels.takes_raw:
        probe = compare_preparations(data.train.samples, pixels, checkpoint, model)
    return ReadyRun(
        config=config,
        checkpoint=checkpoint,
        plan=plan,
        data=data,
        train=train,
        eval=held_out[0] if held_out else None,
        packed=packed,
        model=model,
        quantized=quantized,
        dtype=dtype,
        pixels=pixels,
        probe=probe,
    )


def _in_steps(
    config: RunConfig,
    checkpoint: Checkpoint,
    plan: TuningPlan,
    parts: Sequence[PlannedData],
    *,
    packed: bool,
) -> list[TrainingData]:
    """Every part of the data in the steps of this run."""
    rates = cost_rates(
        checkpoint,
        plan,
        packed=packed,
        checkpointing=config.training.gradient_checkpointing,
    )
    shape = shape_of(config.training, packed=packed, num_ranks=num_processes())
    return [
        TrainingData(samples=part.samples, steps=StepPlan(sizes_of(part.samples, rates), shape))
        for part in parts
    ]


def _quantized(
    architecture: Any, plan: TuningPlan, device: torch.device
) -> QuantizedWeights | None:
    """Which weights the plan has quantised; refused before any data are read."""
    modules = quantized_modules(architecture, plan)
    if not modules:
        return None
    refuse_unquantizable(plan.quantization, device)
    return QuantizedWeights.of(architecture, plan.quantization, modules)
