"""The steps of a run as the Trainer gets them: planned, collated, one micro-batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from sightline.config import TrainingConfig
from sightline.data import Collator, EncodedSample, Origin
from sightline.data.batches import MicroBatch, SampleSizes, Step, StepPlan, StepShape
from sightline.data.samples import PlannedSamples
from sightline.data.workers import WatchedDataset, WorkerBoard, received
from sightline.errors import DataError
from sightline.training.loss import Batch, supervised_tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingData:
    """What is trained on, and in which steps.

    Attributes:
        samples: The conversations of an epoch.
        steps: Its plan of steps.
    """

    samples: Sequence[EncodedSample]
    steps: StepPlan

    @classmethod
    def of(
        cls, samples: Sequence[EncodedSample], training: TrainingConfig, *, packed: bool = False
    ) -> TrainingData:
        """Samples that are in memory, in the steps of one process; they cost their length.

        Args:
            samples: The conversations of an epoch.
            training: The configuration's section.
            packed: Whether samples are packed.
        """
        tokens = np.array([sample.num_tokens for sample in samples], dtype=np.int64)
        sizes = SampleSizes(
            num_tokens=tokens,
            num_supervised_tokens=np.array([one.num_supervised_tokens for one in samples]),
            has_images=np.array([bool(sample.images) for sample in samples]),
            has_videos=np.array([bool(sample.videos) for sample in samples]),
            cost=tokens.astype(np.float64),
        )
        shape = shape_of(training, packed=packed, num_ranks=1)
        return cls(samples=samples, steps=StepPlan(sizes, shape))

    def for_ranks(self, num_ranks: int) -> TrainingData:
        """The same steps, shared by so many ranks."""
        shape = self.steps.shape
        if num_ranks == shape.num_ranks:
            return self
        shared = replace(shape, num_ranks=num_ranks)
        return replace(self, steps=StepPlan(self.steps.sizes, shared))


def on_device(batch: Batch, device: torch.device) -> Batch:
    """A batch on a device. Nothing waits: what is pinned is fetched while the device computes.

    Pixels travel as the bytes that they are, and become numbers there.

    Args:
        batch: A batch of the collator.
        device: Where to.
    """
    return {
        key: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        for key, value in batch.items()
    }


def shape_of(training: TrainingConfig, *, packed: bool, num_ranks: int) -> StepShape:
    """What a step of a run is.

    Args:
        training: The configuration's section.
        packed: Whether samples are packed.
        num_ranks: Processes of the run.
    """
    return StepShape(
        batch_size=training.batch_size,
        gradient_accumulation=training.gradient_accumulation,
        tokens_per_step=training.tokens_per_step,
        tokens_per_row=training.tokens_per_row,
        packed=packed,
        num_ranks=num_ranks,
        seed=training.seed,
    )


class PlannedStep:
    """One step of one rank: its micro-batches, collated when they are asked for.

    Attributes:
        num_micro_batches: How many there are.
        num_supervised_tokens: Tokens that the loss sees, over all ranks.
        in_hand: Numbers of the samples of the micro-batch that was asked for last; none before the
            first, and when the last was done with.
    """

    def __init__(self, step: Step, rank: int, batches: Iterator[Batch]) -> None:
        self.num_micro_batches = len(step.slots)
        self.num_supervised_tokens = step.num_supervised_tokens
        self.in_hand: tuple[int, ...] = ()
        self._planned = [slot[rank].samples for slot in step.slots]
        self._batches = batches

    def __iter__(self) -> Iterator[Batch]:
        for samples in self._planned:
            self.in_hand = samples
            yield next(self._batches)
        self.in_hand = ()


class StepLoader:
    """Steps of one epoch after the other.

    Args:
        data: What is trained on.
        collator: Makes a batch of samples; it packs them where the plan does.
        rank: Number of this process.
        num_workers: Processes that decode.
        pin_memory: Whether batches are put where a GPU can fetch them by itself.
    """

    def __init__(
        self,
        data: TrainingData,
        collator: Collator,
        *,
        rank: int = 0,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self._order = _Order(data.steps, rank)
        self._samples = data.samples
        self._board = WorkerBoard(num_workers)
        self.dataset = _MicroBatches(data, collator, self._board)
        self._batches: DataLoader[Any] = DataLoader(
            WatchedDataset(self.dataset, self._board),
            sampler=self._order,
            batch_size=None,
            collate_fn=_as_it_is,
            num_workers=num_workers,
            worker_init_fn=self._board.begin if num_workers else None,
            pin_memory=pin_memory,
            # Starting them again for every epoch would cost what they save in short ones.
            persistent_workers=num_workers > 0,
            # Its own: by default the loader draws from the generator that dropout draws from, once
            # an epoch, and a run that is resumed in the middle of one would draw again.
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        return len(self._order)

    def set_epoch(self, epoch: int) -> None:
        """Which epoch the next pass is, 0-based."""
        self._order.epoch = epoch

    def starting_at(self, step: int) -> StepLoader:
        """Let the next pass, and no later one, begin at a step of its epoch; returns itself."""
        self._order.first = step
        return self

    def __iter__(self) -> Iterator[PlannedStep]:
        first = self._order.begin_pass()
        batches = self._watched()
        for number in range(first, len(self)):
            yield PlannedStep(self._order.step(number), self._order.rank, batches)
            self._order.forget(number)

    def _watched(self) -> Iterator[Batch]:
        """The micro-batches; what a worker raised, or died of, is raised with its sample."""
        try:
            yield from received(self._batches, self._origin)
        except Exception as error:
            self.explain(error)
            raise

    def close(self) -> None:
        """End the processes that decode.

        Left to the garbage collector, torch waits five seconds for each of them: the queues over
        which they would be told to end may be collected first.
        """
        iterator = self._batches._iterator
        if isinstance(iterator, _MultiProcessingDataLoaderIter):
            iterator._shutdown_workers()
        self._batches._iterator = None
        # Whoever was cut short in a sample has not died of it.
        self._board.clear()

    def explain(self, error: Exception) -> None:
        """Raise what is to be told instead, where an error comes from a worker that died.

        Torch raises that wherever the process is when it hears of it: in the middle of a backward
        pass, for one.

        Raises:
            DataError: The sample that the worker was on, and how it ended.
        """
        died = self._board.explain(error, self._origin)
        if died is not None:
            raise died from error

    def _origin(self, number: int) -> Origin:
        samples = self._samples
        if isinstance(samples, PlannedSamples):
            return samples.origin(number)
        return samples[number].conversation.origin


class _Order(Sampler[MicroBatch]):
    """The micro-batches of a rank, in order. Workers are ahead of what trains by some of them."""

    def __init__(self, steps: StepPlan, rank: int) -> None:
        self._steps = steps
        self.rank = rank
        self._known: dict[int, Step] = {}
        self._start = 0
        self.epoch = 0
        self.first = 0

    def begin_pass(self) -> int:
        """The step at which the pass begins that is made now."""
        self._known.clear()
        self._start, self.first = self.first, 0
        return self._start

    def step(self, number: int) -> Step:
        """A step of the epoch; kept until it is forgotten."""
        if number not in self._known:
            self._known[number] = self._steps.step(self.epoch, number)
        return self._known[number]

    def forget(self, number: int) -> None:
        """A step is done."""
        self._known.pop(number, None)

    def __len__(self) -> int:
        return self._steps.num_steps

    def __iter__(self) -> Iterator[MicroBatch]:
        for number in range(self._start, len(self)):
            for slot in self.step(number).slots:
                yield slot[self.rank]


class _MicroBatches(Dataset[Batch]):
    """Micro-batches by what the plan says of them; a worker encodes, decodes and collates."""

    def __init__(self, data: TrainingData, collator: Collator, board: WorkerBoard) -> None:
        self._board = board
        self._samples = data.samples
        self._num_supervised = data.steps.sizes.num_supervised_tokens
        self._collator = collator

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, planned: Any) -> Batch:
        micro: MicroBatch = planned
        # One after the other, so that what fails to decode is the sample that is told.
        batch: Batch = self._collator(
            self._board.opening(self._samples, micro.samples),
            blank_image=micro.blank_image,
            blank_video=micro.blank_video,
        )
        batch["supervised"], batch["targets"] = supervised_tokens(batch["labels"])
        if "cu_seqlens" in batch:
            batch["longest"] = int(batch["cu_seqlens"].diff().max())
        self._refuse_other_count(micro, len(batch["targets"]))
        return batch

    def _refuse_other_count(self, micro: MicroBatch, found: int) -> None:
        """The loss is divided by what was planned, which all ranks know without asking."""
        planned = int(self._num_supervised[list(micro.samples)].sum())
        if found == planned:
            return
        names = ", ".join(str(self._samples[one].conversation.origin) for one in micro.samples[:3])
        raise DataError(
            f"{names}: {found} tokens are supervised now, and {planned} were when the data were "
            "read.\nThe data changed since: start again, and they are read anew.",
            code="source.changed",
        )


def _as_it_is(batch: Any) -> Any:
    return batch
