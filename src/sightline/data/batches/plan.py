"""Which samples make a step, and where in it each of them goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sightline.data.batches.division import Division
from sightline.data.batches.order import EpochOrder, SamplesAStep, TokensAStep
from sightline.data.batches.sizes import SampleSizes

DEFAULT_TOKENS_PER_ROW = 8192
"""Most tokens of a micro-batch where a step is counted in tokens and nothing else is said."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepShape:
    """What a step is.

    Attributes:
        batch_size: Most samples in a micro-batch; without meaning with tokens_per_step.
        gradient_accumulation: Micro-batches of a rank; without meaning with tokens_per_step.
        tokens_per_step: Tokens of a step over all ranks; None: it is counted in samples.
        tokens_per_row: Most tokens of a micro-batch, padding included; a sample that is longer
            goes alone. None: no limit, or 8192 with tokens_per_step.
        packed: Whether samples of a micro-batch lie end to end; otherwise they are padded.
        num_ranks: Processes that share a step.
        seed: The run's seed.
    """

    batch_size: int
    gradient_accumulation: int
    tokens_per_step: int | None
    tokens_per_row: int | None
    packed: bool
    num_ranks: int
    seed: int

    @property
    def samples_per_step(self) -> int | None:
        """Samples of a step over all ranks; None where it is counted in tokens."""
        if self.tokens_per_step is not None:
            return None
        return self.batch_size * self.gradient_accumulation * self.num_ranks

    @property
    def row_limit(self) -> int | None:
        """Most tokens of a micro-batch."""
        if self.tokens_per_row is None and self.tokens_per_step is not None:
            return DEFAULT_TOKENS_PER_ROW
        return self.tokens_per_row


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroBatch:
    """What one rank computes at once.

    Attributes:
        samples: Numbers in the epoch's data; empty where the step has too few for all ranks.
        blank_image: Whether a blank picture takes part: other ranks have pictures, this one none.
        blank_video: The same for videos.
    """

    samples: tuple[int, ...]
    blank_image: bool
    blank_video: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What the optimizer steps over.

    Attributes:
        slots: Micro-batches, [slot][rank]; those of a slot are computed at the same time. Slots of
            text alone come first: gradients are shared with the last slot, and where only vision
            trains such a one has none.
        num_supervised_tokens: Tokens that the loss sees, over all ranks and slots.
    """

    slots: tuple[tuple[MicroBatch, ...], ...]
    num_supervised_tokens: int

    @property
    def samples(self) -> tuple[int, ...]:
        """Numbers of all its samples in the epoch's data, in no order that means anything."""
        return tuple(one for slot in self.slots for batch in slot for one in batch.samples)


class StepPlan:
    """The steps of every epoch, each computed when it is asked for.

    Which samples make a step follows from the sizes of the samples, the seed, the epoch and the
    size of a step. How many ranks and micro-batches share it, and whether they are packed, decides
    only where each sample goes.

    Args:
        sizes: Sizes of the conversations of an epoch, at least one.
        shape: What a step is.

    Example:
        >>> lengths = np.array([5, 3, 4, 2])
        >>> no = np.zeros(4, dtype=bool)
        >>> sizes = SampleSizes(num_tokens=lengths, num_supervised_tokens=lengths // 2,
        ...                     has_images=no, has_videos=no, cost=lengths.astype(float))
        >>> shape = StepShape(batch_size=2, gradient_accumulation=1, tokens_per_step=None,
        ...                   tokens_per_row=None, packed=True, num_ranks=2, seed=0)
        >>> plan = StepPlan(sizes, shape)
        >>> plan.num_steps
        1
        >>> [sorted(batch.samples) for batch in plan.step(0, 0).slots[0]]
        [[0, 3], [1, 2]]
    """

    def __init__(self, sizes: SampleSizes, shape: StepShape) -> None:
        self.sizes = sizes
        self.shape = shape
        if shape.samples_per_step is not None:
            self._steps = SamplesAStep(len(sizes), shape.samples_per_step)
        else:
            assert shape.tokens_per_step is not None
            self._steps = TokensAStep(sizes.num_tokens, shape.tokens_per_step)
        self._division = Division(
            sizes,
            packed=shape.packed,
            num_ranks=shape.num_ranks,
            batch_size=None if shape.samples_per_step is None else shape.batch_size,
            row_limit=shape.row_limit,
        )
        self._order: EpochOrder | None = None

    @property
    def num_steps(self) -> int:
        """Steps of an epoch, the same for all."""
        return self._steps.num_steps

    def step(self, epoch: int, number: int) -> Step:
        """A step.

        Args:
            epoch: Number of the epoch, 0-based.
            number: Number of the step in its epoch, 0-based.

        Raises:
            IndexError: The epoch has no such step.
        """
        samples = self.samples(epoch, number)
        slots = self._division.slots(samples)
        return Step(
            slots=tuple(sorted((self._slot(slot) for slot in slots), key=self._has_media)),
            num_supervised_tokens=int(self.sizes.num_supervised_tokens[samples].sum()),
        )

    def samples(self, epoch: int, number: int) -> np.ndarray:
        """(samples,) int64. Numbers of a step's samples in the epoch's data.

        Raises:
            IndexError: The epoch has no such step.
        """
        if not 0 <= number < self.num_steps:
            raise IndexError(f"step {number} of an epoch of {self.num_steps} steps")
        if self._order is None or self._order.epoch != epoch:
            self._order = self._steps.order(self.shape.seed, epoch)
        return self._order.step(number)

    def _slot(self, ranks: Sequence[Sequence[int]]) -> tuple[MicroBatch, ...]:
        images = [bool(self.sizes.has_images[list(samples)].any()) for samples in ranks]
        videos = [bool(self.sizes.has_videos[list(samples)].any()) for samples in ranks]
        return tuple(
            MicroBatch(
                samples=tuple(samples),
                blank_image=any(images) and not has_images,
                blank_video=any(videos) and not has_videos,
            )
            for samples, has_images, has_videos in zip(ranks, images, videos, strict=True)
        )

    def _has_media(self, slot: Sequence[MicroBatch]) -> bool:
        samples = [one for batch in slot for one in batch.samples]
        return bool((self.sizes.has_images[samples] | self.sizes.has_videos[samples]).any())

    def __getstate__(self) -> dict[str, Any]:
        # An epoch's order follows from the rest, and is larger.
        return {**self.__dict__, "_order": None}
