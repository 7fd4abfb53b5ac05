"""Settings that fit a device, and what else to change where none do."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sightline.preparation.estimate.costs import Cost, Settings

USABLE_SHARE = 0.9
"""Share of a device's memory that is counted on: the driver and the allocator take the rest."""

# Source pixels that one core decodes and prepares a second: benchmarks/RESULTS.md.
PIXELS_A_SECOND = 90e6
# Below this share of the time of a pass, preparing beside it gains nothing.
_WORTH_A_WORKER = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposal:
    """Settings that fit.

    Attributes:
        cost: Of the settings proposed, or of the smallest where nothing fits.
        fits: Whether they do.
    """

    cost: Cost
    fits: bool


def propose(current: Settings, cost_of: Callable[[Settings], Cost], memory_bytes: int) -> Proposal:
    """The fastest settings that fit, with the same number of samples in a step.

    Computing activations once saves a quarter of a step or more, which a larger batch does not:
    no checkpointing where one sample fits without, then the largest batch.

    Args:
        current: The run's settings.
        cost_of: Their cost.
        memory_bytes: Memory of the device.
    """
    limit = memory_bytes * USABLE_SHARE
    samples = current.batch_size * current.accumulation
    sizes = [size for size in range(1, samples + 1) if samples % size == 0]
    smallest: Cost | None = None
    for checkpointing in (False, True):

        def at(size: int, checkpointing: bool = checkpointing) -> Cost:
            return cost_of(
                Settings(batch_size=size, accumulation=samples // size, checkpointing=checkpointing)
            )

        smallest = at(1)
        if smallest.peak_bytes <= limit:
            return Proposal(cost=_largest(sizes, at, limit, smallest), fits=True)
    assert smallest is not None
    return Proposal(cost=smallest, fits=False)


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


def remedies(cost: Cost, *, longest_tokens: int, vision_tokens: int) -> list[str]:
    """What lowers the peak where no batch size does, what saves most first."""
    parts = cost.parts
    trained = parts["optimizer"] + parts["gradients"]
    spent = {
        "trained": trained,
        "weights": parts["weights"],
        "batch": parts["activations"] + parts["transient"],
        "logits": parts["logits"],
    }
    said = {
        "trained": "train less: lora instead of full, a lower tuning.lora.rank, or freeze a tower",
        "weights": "hold frozen weights in 4 bits: tuning.quantization nf4",
        "batch": (
            f"shorten samples: data.images.max_pixels (the batch has {vision_tokens:,} vision "
            f"tokens) or data.max_length (the longest has {longest_tokens:,} tokens)"
        ),
        "logits": "shorten answers: data.max_length with the fit policies split or trim",
    }
    order = sorted(spent, key=lambda name: -spent[name])
    return [said[name] for name in order if spent[name] > 0]


def _largest(sizes: Sequence[int], at: Callable[[int], Cost], limit: float, found: Cost) -> Cost:
    """The largest batch that fits; the first of them does, as ``found``."""
    low, high = 0, len(sizes) - 1
    while low < high:
        middle = (low + high + 1) // 2
        cost = at(sizes[middle])
        if cost.peak_bytes <= limit:
            low, found = middle, cost
        else:
            high = middle - 1
    return found
