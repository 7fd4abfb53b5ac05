"""The batches of a run that cost most, from the lengths of its samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from sightline.data import Collator, EncodedSample
from sightline.data.samples import PlannedSamples
from sightline.geometry import Patching
from sightline.model import Checkpoint

_COLUMNS = ("num_tokens", "num_vision_tokens", "num_supervised_tokens")


class Batches:
    """Batches of a run without pixels: ids, labels, positions and grids as the collator makes them.

    Args:
        samples: The run's samples.
        checkpoint: The opened checkpoint.
        raw: Whether pixels travel as grey levels.
    """

    def __init__(self, samples: PlannedSamples, checkpoint: Checkpoint, *, raw: bool) -> None:
        self._samples = samples
        self._columns = {name: samples.column(name).astype(np.int64) for name in _COLUMNS}
        tokenizer = checkpoint.processor.tokenizer
        self._collator = Collator(
            pixels=_NoPixels(checkpoint, raw=raw),
            rule=checkpoint.position_rule,
            pad_token_id=tokenizer.convert_tokens_to_ids(checkpoint.family.tokens.end_of_text),
        )
        self._encoded: dict[int, EncodedSample] = {}

    def __len__(self) -> int:
        return len(self._samples)

    def costliest(self, size: int) -> Iterator[tuple[int, ...]]:
        """Batches of which one costs most: the longest samples, those with most pixels, most loss.

        Args:
            size: Samples in a batch; fewer where the run has fewer.

        Yields:
            Numbers of samples.
        """
        seen = set()
        for first in _COLUMNS:
            keys = [self._columns[name] for name in (*_COLUMNS[::-1], first)]
            order = np.lexsort(keys)[::-1][:size]
            chosen = tuple(sorted(int(index) for index in order))
            if chosen not in seen:
                seen.add(chosen)
                yield chosen

    @cached_property
    def usual(self) -> tuple[int, ...]:
        """The sample that is nearest to the mean of all, alone."""
        tokens, vision = self._columns["num_tokens"], self._columns["num_vision_tokens"]
        distance = np.abs(tokens - tokens.mean()) + np.abs(vision - vision.mean())
        return (int(distance.argmin()),)

    def collate(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """A batch, its pixels on the meta device."""
        return self._collator([self.sample(index) for index in indices])

    def sample(self, index: int) -> EncodedSample:
        """A sample of the run."""
        if index not in self._encoded:
            self._encoded[index] = self._samples[index]
        return self._encoded[index]

    def shape(self, indices: Sequence[int]) -> dict[str, Any]:
        """What is in a batch, for the record."""
        chosen = {name: values[list(indices)] for name, values in self._columns.items()}
        return {
            "samples": len(indices),
            "indices": list(indices),
            "longest_tokens": int(chosen["num_tokens"].max()),
            "vision_tokens": int(chosen["num_vision_tokens"].sum()),
            "supervised_tokens": int(chosen["num_supervised_tokens"].sum()),
        }


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
