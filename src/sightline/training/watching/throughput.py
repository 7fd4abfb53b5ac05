"""Tokens and pictures a second, counted from the batches, and the memory in use."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from sightline.data import IGNORE_INDEX

_MIB = 2**20
_GRIDS = {"images": "image_grid_thw", "videos": "video_grid_thw"}


class Throughput:
    """What went through the model since it was last asked.

    Counts stay tensors on the device of the batch until they are asked for: a number taken from
    a GPU makes it wait.

    Args:
        clock: Seconds, for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._mark = clock()
        self._forget()

    def saw(self, batch: Mapping[str, torch.Tensor]) -> None:
        """A micro-batch is about to be trained on."""
        mask = batch.get("attention_mask")
        # A packed row has no padding.
        self._tokens = self._tokens + (mask.sum() if mask is not None else batch["labels"].numel())
        # The first token of a row is predicted by nothing.
        supervised = (batch["labels"][:, 1:] != IGNORE_INDEX).sum()
        self._step_supervised = self._step_supervised + supervised
        for kind, key in _GRIDS.items():
            if key in batch:
                count = len(batch[key])
                self._media[kind] = self._media.get(kind, 0) + count
                self._step_media += count

    def step_ended(self) -> None:
        """An optimizer step is done; the time since the last mark was spent on training."""
        now = self._clock()
        self._seconds += now - self._mark
        self._mark = now
        # Most steps have thousands: the fewest of any step is what an alarm asks for.
        self._supervised.append(self._step_supervised)
        self._last_media = self._step_media
        self._step_supervised, self._step_media = 0, 0

    def paused(self) -> None:
        """What went on since the last step was an evaluation or a checkpoint."""
        self._mark = self._clock()

    def take(self) -> dict[str, float]:
        """The rates since the last call; counting starts anew.

        Returns:
            ``tokens_per_second`` without padding; ``images_per_second`` and
            ``videos_per_second`` where there were any; ``supervised_tokens``, the fewest of any
            step; ``media``, pictures and videos of the last step.
        """
        rates: dict[str, float] = {}
        if self._seconds > 0:
            rates["tokens_per_second"] = int(self._tokens) / self._seconds
            for kind, count in self._media.items():
                rates[f"{kind}_per_second"] = count / self._seconds
        if self._supervised:
            rates["supervised_tokens"] = min(int(count) for count in self._supervised)
            rates["media"] = self._last_media
        self._forget()
        return rates

    def _forget(self) -> None:
        self._seconds = 0.0
        self._tokens: torch.Tensor | int = 0
        self._media: dict[str, int] = {}
        self._supervised: list[torch.Tensor | int] = []
        self._step_supervised: torch.Tensor | int = 0
        self._step_media = 0
        self._last_media = 0


def memory_mib() -> float | None:
    """Memory in use, MiB: the most that CUDA had allocated, or what the process holds.

    Returns:
        None where there is neither a GPU nor ``/proc``.
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / _MIB
    counts = Path("/proc/self/statm")
    if not counts.is_file():
        return None
    resident_pages = int(counts.read_text(encoding="ascii").split()[1])
    return resident_pages * os.sysconf("SC_PAGE_SIZE") / _MIB
