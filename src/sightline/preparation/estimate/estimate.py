"""What a run will take on a device: peak memory by part, time of a step, settings that fit."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from typing import Any

import torch

from sightline.config import RunConfig
from sightline.data.batches import sizes_of
from sightline.data.index import num_cores
from sightline.errors import PlanError, first_line
from sightline.model import Checkpoint
from sightline.preparation.costs import cost_rates
from sightline.preparation.estimate.batches import Batches
from sightline.preparation.estimate.costs import (
    Cost,
    Costs,
    planned_skeleton,
    precision_of,
    takes_raw,
)
from sightline.preparation.estimate.devices import GIB, Device
from sightline.preparation.estimate.proposal import (
    USABLE_SHARE,
    Proposal,
    ladder_of,
    propose,
    propose_workers,
    remedies,
)
from sightline.preparation.estimate.settings import Settings
from sightline.preparation.estimate.simulate import Loss
from sightline.preparation.estimate.timing import step_time
from sightline.preparation.packing import is_packed
from sightline.preparation.prepare import PreparedData
from sightline.tuning import TuningPlan


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
        record["warnings"].append(
            f"memory is not estimated: the model cannot be run: {first_line(fault)}"
        )
    else:
        record["estimate"] = found
        record["warnings"].extend(found["warnings"])


def estimate(
    config: RunConfig,
    checkpoint: Checkpoint,
    data: PreparedData,
    loss: Loss,
    device: Device,
    *,
    num_ranks: int = 1,
) -> dict[str, Any]:
    """Predict memory and time of a run, and propose settings that fit.

    Args:
        config: The run's configuration.
        checkpoint: The opened checkpoint.
        data: The prepared data.
        loss: Loss of a micro-batch as training computes it: ``sightline.training.loss.model_loss``.
        device: What the run is for.
        num_ranks: Processes that share its steps; each is taken to hold the whole model.

    Returns:
        JSON: ``device``, ``precision``, ``packed``, ``settings``, ``parts`` (bytes),
        ``peak_bytes``, ``fits``, ``batch``, ``stage``, ``stages``, ``trained``, ``step`` (time),
        ``proposal``, ``remedies`` and ``warnings``.

    Raises:
        PlanError: The plan cannot be.
    """
    training = config.training
    planned = planned_skeleton(config, checkpoint, precision_of(training.precision, device))
    batches = make_batches(config, checkpoint, data, planned[0], num_ranks=num_ranks)
    costs = Costs(config, checkpoint, planned, batches, loss, device)
    current = Settings.of(training)
    worst = costs.worst(current)
    proposal = propose(
        ladder_of(current, batches.longest, num_ranks=num_ranks),
        cache(lambda settings: costs.worst(settings, stage=worst.stage)),
        device.memory_bytes,
    )
    chosen = proposal.cost.settings
    time = step_time(costs, worst.stage, current, device)
    proposed_time = step_time(costs, worst.stage, chosen, device)
    fits = worst.peak_bytes <= device.memory_bytes * USABLE_SHARE
    return {
        "device": {**asdict(device), "usable_share": USABLE_SHARE},
        "precision": "bf16" if costs.dtype == torch.bfloat16 else "fp32",
        "packed": batches.packed,
        "num_ranks": num_ranks,
        "settings": {**asdict(current), "num_workers": training.num_workers},
        "parts": dict(worst.parts),
        "peak_bytes": worst.peak_bytes,
        "fits": fits,
        "batch": batches.contents(worst.batch),
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
        "remedies": [] if proposal.fits else _remedies(proposal, batches, device),
        "warnings": [
            *_precision_warnings(training.precision, device),
            *_memory_warnings(worst, proposal, device, fits=fits),
        ],
    }


def make_batches(
    config: RunConfig,
    checkpoint: Checkpoint,
    data: PreparedData,
    plan: TuningPlan,
    *,
    num_ranks: int,
) -> Batches:
    """The micro-batches of a run, planned as training plans them.

    Raises:
        PlanError: Samples are to be packed, and the model cannot keep them apart.
    """
    training, samples = config.training, data.train.samples
    packed = is_packed(training.packing, checkpoint)
    rates = cost_rates(
        checkpoint, plan, packed=packed, checkpointing=training.gradient_checkpointing
    )
    return Batches(
        samples,
        sizes_of(samples, rates),
        checkpoint,
        raw=takes_raw(config, checkpoint),
        packed=packed,
        num_ranks=num_ranks,
        seed=training.seed,
    )


def _remedies(proposal: Proposal, batches: Batches, device: Device) -> list[str]:
    contents = batches.contents(proposal.cost.batch)
    return remedies(
        proposal.cost,
        longest_tokens=contents["longest_tokens"],
        vision_tokens=contents["vision_tokens"],
        is_gpu=device.is_gpu,
    )


def _workers(batches: Batches, settings: Settings, time: dict[str, Any], device: Device) -> int:
    samples = [batches.sample(number) for number in batches.usual(settings).samples]
    images = [image for sample in samples for image in sample.images]
    videos = [video for sample in samples for video in sample.videos]
    pixels = sum(image.height * image.width for image in images)
    pixels += sum(video.height * video.width * len(video.frame_indices) for video in videos)
    seconds = time["seconds"]
    return propose_workers(
        pixels,
        None if seconds is None else seconds / time["micro_batches"],
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
            f"memory: a step is estimated at {size} on {device.title}, and no micro-batch fits: "
            f"one sample with gradient checkpointing takes {least}."
        ]
    return [f"memory: a step is estimated at {size} on {device.title}; see the proposal."]
