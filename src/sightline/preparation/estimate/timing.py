"""The time of a step, from operations of the planned model and the rate of a device."""

from __future__ import annotations

from typing import Any

import numpy as np

from sightline.data.batches import figures_of
from sightline.data.batches.figures import load
from sightline.preparation.estimate.costs import Costs
from sightline.preparation.estimate.devices import Device
from sightline.preparation.estimate.settings import Settings

UTILISATION = {"gpu": 0.4, "cpu": 0.6}
"""Share of the matrix rate that a step is taken to reach."""

SECONDS_A_CALL = 1e-5
"""Python and torch need it to tell a device what to do next: a small model waits for them."""


def step_time(costs: Costs, stage: int, settings: Settings, device: Device) -> dict[str, Any]:
    """Time of an optimizer step; seconds are None where no rate is known.

    The micro-batch of mean cost is simulated. The steps of the plan are that much longer as their
    samples, padding included, are estimated to cost more; of ranks the slowest counts.

    Args:
        costs: The run's.
        stage: Number of the stage, 0-based.
        settings: Of the run.
        device: What it runs on.

    Returns:
        JSON: ``flops`` of the slowest rank, ``tflops`` of the device, ``utilisation``,
        ``seconds``, ``tokens``, ``samples`` and ``micro_batches`` of a step on average,
        ``tokens_a_second`` of all ranks, ``steps_an_epoch``, ``padding_share`` and ``idle_share``.
    """
    batches = costs.batches
    plan, steps = batches.steps(settings)
    usual = batches.usual(settings)
    ran = costs.run(stage, usual.samples, checkpointing=settings.checkpointing, accumulates=True)
    slowest = [
        sum(max(load(batch, plan) for batch in slot) for slot in step.slots) for step in steps
    ]
    flops = ran.flops * float(np.mean(slowest)) / load(usual, plan)
    micro_batches = float(np.mean([len(step.slots) for step in steps]))
    tokens = float(np.mean([plan.sizes.num_tokens[list(step.samples)].sum() for step in steps]))
    rate = device.tflops(costs.dtype)
    used = UTILISATION["gpu" if device.is_gpu else "cpu"]
    seconds = None
    if rate is not None:
        calling = ran.calls * micro_batches * SECONDS_A_CALL
        seconds = max(flops / (rate * 1e12 * used), calling)
    figures = figures_of(plan)
    return {
        "flops": flops,
        "tflops": rate,
        "utilisation": used,
        "seconds": seconds,
        "samples": float(np.mean([len(step.samples) for step in steps])),
        "tokens": tokens,
        "micro_batches": micro_batches,
        "tokens_a_second": None if seconds is None else tokens / seconds,
        "steps_an_epoch": plan.num_steps,
        "padding_share": figures.padding_share,
        "idle_share": figures.idle_share,
    }
