"""Settings that fit a device, and what else to change where none do."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sightline.preparation.estimate.costs import Cost
from sightline.preparation.estimate.settings import Settings

USABLE_SHARE = 0.9
"""Share of a device's memory that is counted on: the driver and the allocator take the rest."""

# Source pixels that one core decodes and prepares a second: benchmarks/RESULTS.md.
PIXELS_A_SECOND = 90e6
# Below this share of the time of a pass, preparing beside it gains nothing.
_WORTH_A_WORKER = 0.05
# Below this share of the peak, what lowers a part is no help.
_WORTH_SAYING = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposal:
    """Settings that fit.

    Attributes:
        cost: Of the settings proposed, or of the smallest where nothing fits.
        fits: Whether they do.
    """

    cost: Cost
    fits: bool


def propose(
    ladder: Sequence[Settings], cost_of: Callable[[Settings], Cost], memory_bytes: int
) -> Proposal:
    """The fastest settings that fit.

    Computing activations once saves a quarter of a step or more, which a larger micro-batch does
    not: no checkpointing where the smallest fits without, then the largest micro-batch.

    Args:
        ladder: What may be proposed, the smallest micro-batch first: see `ladder_of`.
        cost_of: Their cost.
        memory_bytes: Memory of the device.
    """
    limit = memory_bytes * USABLE_SHARE
    smallest: Cost | None = None
    for checkpointing in (False, True):
        steps = [replace(settings, checkpointing=checkpointing) for settings in ladder]
        smallest = cost_of(steps[0])
        if smallest.peak_bytes <= limit:
            return Proposal(cost=_largest(steps, cost_of, limit, smallest), fits=True)
    assert smallest is not None
    return Proposal(cost=smallest, fits=False)


def ladder_of(current: Settings, longest: int, *, num_ranks: int = 1) -> list[Settings]:
    """Settings with steps of the same size, the smallest micro-batch first.

    What a step learns from does not depend on how it is divided, so the run learns the same.

    Args:
        current: The run's settings.
        longest: Tokens of the longest sample: it goes alone, whatever a row may hold.
        num_ranks: Processes that share a step.

    Example:
        >>> run = Settings(batch_size=1, accumulation=8, tokens_per_step=9000, checkpointing=True)
        >>> [one.tokens_per_row for one in ladder_of(run, 1500)]
        [2048, 4096, 8192]
        >>> run = Settings(batch_size=2, accumulation=3, checkpointing=True)
        >>> [(one.batch_size, one.accumulation) for one in ladder_of(run, 1500)]
        [(1, 6), (2, 3), (3, 2), (6, 1)]
    """
    if current.tokens_per_step is None:
        samples = current.batch_size * current.accumulation
        sizes = [size for size in range(1, samples + 1) if samples % size == 0]
        return [replace(current, batch_size=size, accumulation=samples // size) for size in sizes]
    rows = [2 ** (longest - 1).bit_length()]
    while 2 * rows[-1] * num_ranks <= current.tokens_per_step:
        rows.append(2 * rows[-1])
    if current.tokens_per_row is not None and current.tokens_per_row > longest:
        rows = sorted({*rows, current.tokens_per_row})
    return [replace(current, tokens_per_row=row) for row in rows]


def propose_workers(pixels: int, seconds: float | None, *, num_cores: int, is_gpu: bool) -> int:
    """Processes that prepare a batch in the time that the device takes for one.

    Args:
        pixels: Pixels of the media of a batch, in their files.
        seconds: Time of a forward and backward pass; None where it is not known.
        num_cores: Cores of this machine.
        is_gpu: Whether the device is a GPU; else the cores train too.
    """
    needed = pixels / PIXELS_A_SECOND
    if needed == 0 or (seconds is not None and needed < _WORTH_A_WORKER * seconds):
        return 0
    most = max(1, num_cores - 1) if is_gpu else max(0, num_cores // 2)
    wanted = most if seconds is None else math.ceil(needed / seconds) + is_gpu
    return min(most, wanted)


def remedies(cost: Cost, *, longest_tokens: int, vision_tokens: int, is_gpu: bool) -> list[str]:
    """What lowers the peak where no micro-batch is small enough, what saves most first."""
    parts = cost.parts
    trained = parts["optimizer"] + parts["gradients"]
    spent = {
        "trained": trained,
        "weights": parts["weights"],
        "batch": parts["activations"] + parts["transient"],
    }
    if is_gpu:
        spent["shared"] = trained + parts["weights"]
    said = {
        "shared": "share weights, gradients and optimizer among GPUs: training.parallel fsdp",
        "trained": "train less: lora instead of full, a lower tuning.lora.rank, or freeze a tower",
        "weights": "hold frozen weights in 4 bits: tuning.quantization nf4",
        "batch": (
            f"shorten samples: data.images.max_pixels (the batch has {vision_tokens:,} vision "
            f"tokens) or data.max_length (the longest has {longest_tokens:,} tokens)"
        ),
    }
    order = sorted(spent, key=lambda name: -spent[name])
    return [said[name] for name in order if spent[name] >= _WORTH_SAYING * cost.peak_bytes]


def _largest(
    steps: Sequence[Settings], cost_of: Callable[[Settings], Cost], limit: float, found: Cost
) -> Cost:
    """The largest that fits; the first of them does, as ``found``."""
    low, high = 0, len(steps) - 1
    while low < high:
        middle = (low + high + 1) // 2
        cost = cost_of(steps[middle])
        if cost.peak_bytes <= limit:
            low, found = middle, cost
        else:
            high = middle - 1
    return found
