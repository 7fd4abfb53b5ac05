"""Batches for training and for generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from sightline.data.encode import IGNORE_INDEX, EncodedSample
from sightline.data.pixels import PixelLoader
from sightline.positions import PositionRule, place_layouts, refuse_misplaced

_CONCATENATED = (
    "pixel_values",
    "image_grid_thw",
    "pixel_values_videos",
    "video_grid_thw",
    "second_per_grid_ts",
)


class Collator:
    """Pads samples to one batch, every tensor placed and labelled by its own layout.

    Args:
        pixels: Loads the pixels of a sample.
        rule: The checkpoint's position rule.
        pad_token_id: Id that fills the padding.
        padding_side: right for training, left for generation.
    """

    def __init__(
        self,
        *,
        pixels: PixelLoader,
        rule: PositionRule,
        pad_token_id: int,
        padding_side: Literal["left", "right"] = "right",
    ) -> None:
        self._pixels = pixels
        self._rule = rule
        self._pad_token_id = pad_token_id
        self._padding_side = padding_side

    def __call__(self, samples: Sequence[EncodedSample]) -> dict[str, torch.Tensor]:
        """A batch.

        Returns:
            ``input_ids``, ``labels``, ``attention_mask`` (batch, seq) int64, ``position_ids``
            (4, batch, seq) int64 with the text row first, and the pixels and grids of all
            samples one after the other.
        """
        length = max(sample.num_tokens for sample in samples)
        shape = (len(samples), length)
        input_ids = np.full(shape, self._pad_token_id, dtype=np.int64)
        labels = np.full(shape, IGNORE_INDEX, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        pads_left = self._padding_side == "left"
        first_columns = [length - s.num_tokens if pads_left else 0 for s in samples]
        placed = place_layouts(
            [[sample.layout] for sample in samples],
            self._rule.rope,
            tokens_per_second=self._rule.tokens_per_second,
            width=length,
            first_columns=first_columns,
        )
        pixels: dict[str, list[torch.Tensor]] = {}
        for row, (sample, first) in enumerate(zip(samples, first_columns, strict=True)):
            where = slice(first, first + sample.num_tokens)
            input_ids[row, where] = sample.input_ids
            labels[row, where] = sample.labels
            mask[row, where] = 1
            for key, tensor in self._pixels(sample).items():
                pixels.setdefault(key, []).append(tensor)
        if self._rule.rope.temporal_rule != "seconds":
            # The classes of families that do not scale time refuse this argument.
            pixels.pop("second_per_grid_ts", None)
        batch = {
            "input_ids": torch.from_numpy(input_ids),
            "labels": torch.from_numpy(labels),
            "attention_mask": torch.from_numpy(mask),
            "position_ids": torch.from_numpy(placed.model_position_ids),
        }
        batch |= {key: torch.cat(pixels[key]) for key in _CONCATENATED if key in pixels}
        self._refuse_misplaced(batch, samples)
        return batch

    def _refuse_misplaced(
        self, batch: dict[str, torch.Tensor], samples: Sequence[EncodedSample]
    ) -> None:
        """Hold the batch, as the model would see it, against every sample's own media."""
        refuse_misplaced(
            batch["input_ids"],
            batch["position_ids"],
            self._rule,
            attention_mask=batch["attention_mask"],
            image_grid_thw=batch.get("image_grid_thw"),
            video_grid_thw=batch.get("video_grid_thw"),
            second_per_grid_ts=batch.get("second_per_grid_ts"),
            samples=[str(sample.conversation.origin) for sample in samples],
            num_images=[len(sample.images) for sample in samples],
            num_videos=[len(sample.videos) for sample in samples],
        )
