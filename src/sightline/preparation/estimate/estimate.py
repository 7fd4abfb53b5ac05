"""What a run will take on a device: peak memory by part, time of a step, settings that fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from typing import Any

import torch

from sightline.config import RunConfig
from sightline.data.index import num_cores
from sightline.errors import PlanError
from sightline.model import Checkpoint
from sightline.preparation.estimate.batches import Batches
from sightline.preparation.estimate.costs import Cost, Costs, Settings
from sightline.preparation.estimate.devices import GIB, Device
from sightline.preparation.estimate.proposal import (
    USABLE_SHARE,
    Proposal,
    propose,
    propose_workers,
    remedies,
)
from sightline.preparation.estimate.simulate import Loss
from sightline.preparation.prepare import PreparedData

UTILISATION = {"gpu": 0.4, "cpu": 0.6}
"""Share of the matrix rate that a step is taken to reach."""

SECONDS_A_CALL = 1e-5
"""Python and torch need it to tell a device what to do next: a small model waits for them."""


def add_estimate(
    record: dict[str, Any],
    config: RunConfig,
    checkpoint: Checkpoint,
    data: PreparedData,
    loss: Loss,
    device: Device,
) -> None:
    """Put the estimate under ``estimate`` of a check's record, and its warnings to the others.

    A plan that cannot be is an error of the record; there is no estimate then. A model that
    cannot be simulated is a warning.

    Args:
        record: What ``sightline.checks.dataset.check_data`` returned.
        config: The run's configuration.
        checkpoint: The opened checkpoint.
        data: The prepared data.
        loss: Loss of a batch as training computes it: ``sightline.training.loss.model_loss``.
        device: What the run is for.
    """
    record["estimate"] = None
    try:
        found = estimate(config, checkpoint, data, loss, device)
    except PlanError as fault:
        record["errors"].append(str(fault))
    except RuntimeError as fault:
        # A model of a newer transformers that reads values which the simulation does not have.
        reason = str(fault).strip().splitlines()[0]
        record["warnings"].append(f"memory is not estimated: the model cannot be run: {reason}")
    else:
        record["estimate"] = found
        record["warnings"].extend(found["warnings"])


def estimate(
    config: RunConfig, checkpoint: Checkpoint, data: PreparedData, loss: Loss, device: Device
) -> dict[str, Any]:
    """Predict memory and time of a run, and propose settings that fit.

    Args:
        config: The run's configuration.
        checkpoint: The opened checkpoint.
        data: The prepared data.
        loss: Loss of a batch as training computes it: ``sightline.training.loss.model_loss``.
        device: What the run is for.

    Returns:
        JSON: ``device``, ``precision``, ``settings``, ``parts`` (bytes), ``peak_bytes``,
        ``batch``, ``stage``, ``stages``, ``trained``, ``step`` (time), ``proposal``, ``remedies``
        and ``warnings``.

    Raises:
        PlanError: The plan cannot be.
    """
    raw = config.data.preparation == "lean" and checkpoint.recipes is not None
    batches = Batches(data.train.samples, checkpoint, raw=raw)
    costs = Costs(config, checkpoint, batches, loss, device)
    training = config.training
    current = Settings(
        batch_size=training.batch_size,
        accumulation=training.gradient_accumulation,
        checkpointing=training.gradient_checkpointing,
    )
    worst = costs.worst(current)
    proposal = propose(current, _like(worst, current, costs), device.memory_bytes)
    chosen = proposal.cost.settings
    time = step_time(costs, worst.stage, current, device)
    proposed_time = step_time(costs, worst.stage, chosen, device)
    shape = batches.shape(proposal.cost.batch)
    fits = worst.peak_bytes <= device.memory_bytes * USABLE_SHARE
    tight = (
        None
        if proposal.fits
        else remedies(
            proposal.cost,
            longest_tokens=shape["longest_tokens"],
            vision_tokens=shape["vision_tokens"],
        )
    )
    return {
        "device": {**asdict(device), "usable_share": USABLE_SHARE},
        "precision": "bf16" if costs.dtype == torch.bfloat16 else "fp32",
        "settings": {**asdict(current), "num_workers": training.num_workers},
        "parts": dict(worst.parts),
        "peak_bytes": worst.peak_bytes,
        "fits": fits,
        "batch": batches.shape(worst.batch),
        "stage": worst.stage,
        "stages": [stage.name for stage in costs.plan.stages],
        "trained": costs.static(worst.stage).num_trained,
        "step": time,
        "proposal": {
            "fits": proposal.fits,
            **asdict(chosen),
            "num_workers": _workers(batches, chosen, proposed_time, device),
            "peak_bytes": proposal.cost.peak_bytes,
            "step": proposed_time,
        },
        "remedies": tight or [],
        "warnings": [
            *_precision_warnings(training.precision, device),
            *_memory_warnings(worst, proposal, device, fits=fits),
        ],
    }


def step_time(costs: Costs, stage: int, settings: Settings, device: Device) -> dict[str, Any]:
    """Time of an optimizer step of usual samples; seconds are None where no rate is known.

    Args:
        costs: The run's.
        stage: Number of the stage, 0-based.
        settings: Of the run.
        device: What it runs on.
    """
    ran = costs.run(
        stage, costs.batches.usual, checkpointing=settings.checkpointing, accumulates=True
    )
    samples = settings.batch_size * settings.accumulation
    rate = device.tflops(costs.dtype)
    used = UTILISATION["gpu" if device.is_gpu else "cpu"]
    flops = ran.flops * samples
    return {
        "flops": flops,
        "tflops": rate,
        "utilisation": used,
        "seconds": None
        if rate is None
        else max(flops / (rate * 1e12 * used), ran.calls * samples * SECONDS_A_CALL),
        "steps_an_epoch": -(-len(costs.batches) // samples),
    }


def _like(worst: Cost, current: Settings, costs: Costs) -> Callable[[Settings], Cost]:
    """Costs at other settings, in the stage and with the kind of batch that cost most."""
    kinds = list(costs.batches.costliest(current.batch_size))
    kind = kinds.index(worst.batch)

    @cache
    def cost_of(settings: Settings) -> Cost:
        if settings == current:
            return worst
        alike = list(costs.batches.costliest(settings.batch_size))
        return costs.of(settings, worst.stage, alike[min(kind, len(alike) - 1)])

    return cost_of


def _workers(batches: Batches, settings: Settings, time: dict[str, Any], device: Device) -> int:
    sample = batches.sample(batches.usual[0])
    pixels = sum(image.height * image.width for image in sample.images)
    pixels += sum(v.height * v.width * len(v.frame_indices) for v in sample.videos)
    seconds = time["seconds"]
    return propose_workers(
        pixels * settings.batch_size,
        None if seconds is None else seconds / settings.accumulation,
        num_cores=num_cores(),
        is_gpu=device.is_gpu,
    )


def _precision_warnings(precision: str, device: Device) -> list[str]:
    if not device.is_gpu or device.has_bf16:
        return []
    asked = "training.precision is bf16, which it does not compute. " if precision == "bf16" else ""
    return [
        f"{device.title} has no bf16. {asked}fp16 is no way out: activations of these models "
        "overflow it. Train in fp32 there (training.precision fp32), or take another device."
    ]


def _memory_warnings(worst: Cost, proposal: Proposal, device: Device, *, fits: bool) -> list[str]:
    if fits:
        return []
    size = f"{worst.peak_bytes / GIB:.1f} GiB of {device.memory_gib:.0f}"
    if not proposal.fits:
        least = f"{proposal.cost.peak_bytes / GIB:.1f} GiB"
        return [
            f"memory: a step is estimated at {size} on {device.title}, and no batch size fits: "
            f"one sample with gradient checkpointing takes {least}."
        ]
    return [f"memory: a step is estimated at {size} on {device.title}; see the proposal."]
