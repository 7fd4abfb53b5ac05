"""The micro-batches of a run that cost most, from its plan of steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from sightline.data import Collator, EncodedSample
from sightline.data.batches import MicroBatch, SampleSizes, Step, StepPlan, StepShape
from sightline.data.batches.figures import load
from sightline.data.samples import PlannedSamples
from sightline.geometry import Patching
from sightline.model import Checkpoint
from sightline.preparation.estimate.settings import Settings

# Steps that are looked at: the rest are like them.
_NUM_STEPS = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """A micro-batch as memory sees it.

    Attributes:
        samples: Numbers of its samples.
        follows: Whether gradients of an earlier one of its step are there.
    """

    samples: tuple[int, ...]
    follows: bool


class Batches:
    """Micro-batches without pixels: ids, labels, positions and grids as the collator makes them.

    Args:
        samples: The run's samples.
        sizes: Their sizes, with the costs by which the run balances its steps.
        checkpoint: The opened checkpoint.
        raw: Whether pixels travel as grey levels.
        packed: Whether samples of a micro-batch lie end to end.
        num_ranks: Processes of the run.
        seed: Its seed.
    """

    def __init__(
        self,
        samples: PlannedSamples,
        sizes: SampleSizes,
        checkpoint: Checkpoint,
        *,
        raw: bool,
        packed: bool,
        num_ranks: int = 1,
        seed: int = 0,
    ) -> None:
        self._samples = samples
        self._sizes = sizes
        self._patches = samples.column("num_patches").astype(np.int64)
        self._vision = samples.column("num_vision_tokens").astype(np.int64)
        self.packed = packed
        self.num_ranks = num_ranks
        self._seed = seed
        tokenizer = checkpoint.processor.tokenizer
        self._collator = Collator(
            pixels=_NoPixels(checkpoint, raw=raw),
            rule=checkpoint.position_rule,
            pad_token_id=tokenizer.convert_tokens_to_ids(checkpoint.family.tokens.end_of_text),
            packs=packed,
        )
        self._encoded: dict[int, EncodedSample] = {}
        self._plans: dict[Settings, tuple[StepPlan, list[Step]]] = {}

    def __len__(self) -> int:
        return len(self._samples)

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest sample."""
        return int(self._sizes.num_tokens.max())

    def steps(self, settings: Settings) -> tuple[StepPlan, list[Step]]:
        """The steps of a run, and the first of its first epoch."""
        key = replace(settings, checkpointing=False)
        if key not in self._plans:
            plan = StepPlan(self._sizes, self._shape(settings))
            first = [plan.step(0, number) for number in range(min(plan.num_steps, _NUM_STEPS))]
            self._plans[key] = plan, first
        return self._plans[key]

    def costliest(self, settings: Settings) -> list[Load]:
        """Micro-batches of which one costs most memory.

        Those of the first steps, and, since another epoch draws others, those of the steps that the
        longest samples, the ones with most patches, and the ones with most supervised tokens would
        make. Of all of these the ones with most tokens, patches, supervised tokens and cost, for
        the first micro-batch of a step and for the later ones.
        """
        _, steps = self.steps(settings)
        loads = set(_loads(steps))
        for largest in (self._sizes.num_tokens, self._patches, self._sizes.num_supervised_tokens):
            loads.update(self._worst_steps(largest, settings))
        found = {one: self._weight(one) for one in loads}
        chosen: dict[Load, tuple[float, ...]] = {}
        for number in range(4):
            for follows in (False, True):
                alike = [one for one in loads if one.follows == follows]
                if alike:
                    # Of equals the one whose samples come first, for the same answer every time.
                    most = max(alike, key=lambda one: (*_first(found[one], number), one.samples))
                    chosen[most] = found[most]
        return [one for one in chosen if not any(_covers(chosen, two, one) for two in chosen)]

    def usual(self, settings: Settings) -> MicroBatch:
        """The micro-batch that costs about the mean."""
        plan, steps = self.steps(settings)
        batches = [one for step in steps for slot in step.slots for one in slot if one.samples]
        costs = np.array([load(one, plan) for one in batches])
        return batches[int(np.abs(costs - costs.mean()).argmin())]

    def collate(self, samples: Sequence[int]) -> dict[str, torch.Tensor]:
        """A micro-batch, its pixels on the meta device."""
        return self._collator([self.sample(number) for number in samples])

    def sample(self, number: int) -> EncodedSample:
        """A sample of the run."""
        if number not in self._encoded:
            self._encoded[number] = self._samples[number]
        return self._encoded[number]

    def contents(self, samples: Sequence[int]) -> dict[str, Any]:
        """What is in a micro-batch, for the record."""
        chosen = list(samples)
        return {
            "samples": len(chosen),
            "indices": chosen,
            "tokens": self._cells(chosen),
            "longest_tokens": int(self._sizes.num_tokens[chosen].max()),
            "vision_tokens": int(self._vision[chosen].sum()),
            "supervised_tokens": int(self._sizes.num_supervised_tokens[chosen].sum()),
        }

    def _shape(self, settings: Settings) -> StepShape:
        return settings.shape(packed=self.packed, num_ranks=self.num_ranks, seed=self._seed)

    def _worst_steps(self, largest: np.ndarray, settings: Settings) -> Iterator[Load]:
        """The micro-batches of a step that has the samples with most of something."""
        shape = self._shape(settings)
        sizes = self._sizes
        order = np.lexsort((sizes.num_supervised_tokens, sizes.num_tokens, largest))[::-1]
        number = shape.samples_per_step
        if number is None:
            assert shape.tokens_per_step is not None
            filled = np.cumsum(sizes.num_tokens[order])
            number = int(np.searchsorted(filled, shape.tokens_per_step, side="right"))
        chosen = order[: max(1, number)]
        few = replace(
            sizes,
            num_tokens=sizes.num_tokens[chosen],
            num_supervised_tokens=sizes.num_supervised_tokens[chosen],
            has_images=sizes.has_images[chosen],
            has_videos=sizes.has_videos[chosen],
            cost=sizes.cost[chosen],
        )
        plan = StepPlan(few, shape)
        for one in _loads(plan.step(0, number) for number in range(plan.num_steps)):
            yield replace(one, samples=tuple(sorted(chosen[list(one.samples)].tolist())))

    def _weight(self, one: Load) -> tuple[float, ...]:
        samples = list(one.samples)
        return (
            self._cells(samples),
            int(self._patches[samples].sum()),
            int(self._sizes.num_supervised_tokens[samples].sum()),
            float(self._sizes.cost[samples].sum()),
        )

    def _cells(self, samples: list[int]) -> int:
        """Tokens, padding included."""
        tokens = self._sizes.num_tokens[samples]
        return int(tokens.sum()) if self.packed else len(samples) * int(tokens.max())


def _loads(steps: Iterable[Step]) -> Iterator[Load]:
    for step in steps:
        for number, slot in enumerate(step.slots):
            for batch in slot:
                if batch.samples:
                    yield Load(samples=tuple(sorted(batch.samples)), follows=number > 0)


def _first(weights: tuple[float, ...], number: int) -> tuple[float, ...]:
    """One of the weights in front of all."""
    return weights[number], *weights


def _covers(weights: dict[Load, tuple[float, ...]], two: Load, one: Load) -> bool:
    """Whether the second costs no less than the first in every respect, and more in one."""
    second, first = (*weights[two], two.follows), (*weights[one], one.follows)
    return second != first and all(b >= a for a, b in zip(first, second, strict=True))


class _NoPixels:
    """Pixels of the right shape, without values."""

    def __init__(self, checkpoint: Checkpoint, *, raw: bool) -> None:
        self._preprocessing = checkpoint.preprocessing
        self.takes_raw = raw

    def __call__(self, sample: EncodedSample) -> dict[str, torch.Tensor]:
        """Pixels and grids of a sample, by the names of the model's arguments."""
        tensors: dict[str, torch.Tensor] = {}
        if sample.images:
            patching = self._preprocessing.image_patching
            frames = 1 if self.takes_raw else patching.temporal_patch_size
            tensors["pixel_values"] = self._patches(sample.images, patching, frames)
            tensors["image_grid_thw"] = torch.tensor([one.grid_thw for one in sample.images])
        if sample.videos:
            patching = self._preprocessing.video_patching
            tensors["pixel_values_videos"] = self._patches(
                sample.videos, patching, patching.temporal_patch_size
            )
            tensors["video_grid_thw"] = torch.tensor([one.grid_thw for one in sample.videos])
            tensors["second_per_grid_ts"] = torch.tensor(
                [video.seconds_per_grid for video in sample.videos], dtype=torch.float32
            )
        return tensors

    def _patches(self, media: Sequence[Any], patching: Patching, frames: int) -> torch.Tensor:
        """(num_patches, numbers of a patch), uint8 or float32."""
        count = sum(t * h * w for t, h, w in (one.grid_thw for one in media))
        dtype = torch.uint8 if self.takes_raw else torch.float32
        return torch.empty(count, 3 * frames * patching.patch_size**2, dtype=dtype, device="meta")
