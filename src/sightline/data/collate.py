"""Batches for training and for generation, padded or packed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from sightline.data.blanks import Blank, Blanks
from sightline.data.encode import IGNORE_INDEX, EncodedSample
from sightline.data.pixels import PixelLoader
from sightline.positions import Layout, PositionRule, place_layouts, refuse_misplaced

_CONCATENATED = (
    "pixel_values",
    "image_grid_thw",
    "pixel_values_videos",
    "video_grid_thw",
    "second_per_grid_ts",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    """A sample of a batch, or a blank."""

    input_ids: np.ndarray
    labels: np.ndarray
    layout: Layout
    pixels: Mapping[str, torch.Tensor]
    name: str
    num_images: int
    num_videos: int

    @property
    def num_tokens(self) -> int:
        return len(self.input_ids)


class Collator:
    """Makes one batch of samples, every tensor placed and labelled by its own layout.

    Args:
        pixels: Loads the pixels of a sample.
        rule: The checkpoint's position rule.
        pad_token_id: Id that fills the padding.
        padding_side: right for training, left for generation.
        packs: Whether samples are laid end to end in one row, in place of a row each.
        blanks: Makes what stands in for pictures that a batch has not; None where none do.
    """

    def __init__(
        self,
        *,
        pixels: PixelLoader,
        rule: PositionRule,
        pad_token_id: int,
        padding_side: Literal["left", "right"] = "right",
        packs: bool = False,
        blanks: Blanks | None = None,
    ) -> None:
        self._pixels = pixels
        self._rule = rule
        self._pad_token_id = pad_token_id
        self._padding_side = padding_side
        self._packs = packs
        self._blanks = blanks

    def __call__(
        self,
        samples: Iterable[EncodedSample],
        *,
        blank_image: bool = False,
        blank_video: bool = False,
    ) -> dict[str, torch.Tensor]:
        """A batch.

        Args:
            samples: Its samples; may be none, where there are blanks.
            blank_image: Whether a blank picture is added.
            blank_video: Whether a blank video is added.

        Returns:
            ``input_ids``, ``labels`` (batch, seq) int64, ``position_ids`` (4, batch, seq) int64
            with the text row first, and the pixels and grids of all samples one after the other.
            Padded batches have an ``attention_mask`` (batch, seq) int64; packed ones have one
            row, and ``cu_seqlens`` (num_samples + 1,) int32, where samples begin and end in it.
        """
        parts = [self._part(sample) for sample in samples]
        parts += self._blank_parts(blank_image, blank_video, is_empty=not parts)
        batch = self._packed(parts) if self._packs else self._padded(parts)
        pixels: dict[str, list[torch.Tensor]] = {}
        for part in parts:
            for key, tensor in part.pixels.items():
                pixels.setdefault(key, []).append(tensor)
        if self._rule.rope.temporal_rule != "seconds":
            # The classes of families that do not scale time refuse this argument.
            pixels.pop("second_per_grid_ts", None)
        batch |= {key: torch.cat(pixels[key]) for key in _CONCATENATED if key in pixels}
        self._refuse_misplaced(batch, parts)
        return batch

    def _part(self, sample: EncodedSample) -> _Part:
        return _Part(
            input_ids=sample.input_ids,
            labels=sample.labels,
            layout=sample.layout,
            pixels=self._pixels(sample),
            name=str(sample.conversation.origin),
            num_images=len(sample.images),
            num_videos=len(sample.videos),
        )

    def _blank_parts(self, image: bool, video: bool, *, is_empty: bool) -> list[_Part]:
        wanted: list[Blank] = []
        if image or video or is_empty:
            assert self._blanks is not None, "a batch without samples needs a maker of blanks"
            if image:
                wanted.append(self._blanks.image())
            if video:
                wanted.append(self._blanks.video())
            if not wanted:
                wanted.append(self._blanks.text())
        return [
            _Part(
                input_ids=blank.input_ids,
                labels=np.full_like(blank.input_ids, IGNORE_INDEX),
                layout=blank.layout,
                pixels=blank.pixels,
                name="a blank",
                num_images=blank.num_images,
                num_videos=blank.num_videos,
            )
            for blank in wanted
        ]

    def _padded(self, parts: Sequence[_Part]) -> dict[str, torch.Tensor]:
        length = max(part.num_tokens for part in parts)
        shape = (len(parts), length)
        input_ids = np.full(shape, self._pad_token_id, dtype=np.int64)
        labels = np.full(shape, IGNORE_INDEX, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        pads_left = self._padding_side == "left"
        first_columns = [length - part.num_tokens if pads_left else 0 for part in parts]
        placed = place_layouts(
            [[part.layout] for part in parts],
            self._rule.rope,
            tokens_per_second=self._rule.tokens_per_second,
            width=length,
            first_columns=first_columns,
        )
        for row, (part, first) in enumerate(zip(parts, first_columns, strict=True)):
            where = slice(first, first + part.num_tokens)
            input_ids[row, where] = part.input_ids
            labels[row, where] = part.labels
            mask[row, where] = 1
        return {
            "input_ids": torch.from_numpy(input_ids),
            "labels": torch.from_numpy(labels),
            "attention_mask": torch.from_numpy(mask),
            "position_ids": torch.from_numpy(placed.model_position_ids),
        }

    def _packed(self, parts: Sequence[_Part]) -> dict[str, torch.Tensor]:
        ends = np.cumsum([part.num_tokens for part in parts])
        placed = place_layouts(
            [[part.layout for part in parts]],
            self._rule.rope,
            tokens_per_second=self._rule.tokens_per_second,
            width=int(ends[-1]),
        )
        labels = np.concatenate([part.labels for part in parts])
        # The last token of one sample does not predict the first of the next.
        labels[np.concatenate([[0], ends[:-1]])] = IGNORE_INDEX
        return {
            "input_ids": torch.from_numpy(np.concatenate([part.input_ids for part in parts]))[None],
            "labels": torch.from_numpy(labels)[None],
            "position_ids": torch.from_numpy(placed.model_position_ids),
            "cu_seqlens": torch.from_numpy(np.concatenate([[0], ends]).astype(np.int32)),
        }

    def _refuse_misplaced(self, batch: dict[str, torch.Tensor], parts: Sequence[_Part]) -> None:
        """Hold the batch, as the model would see it, against every sample's own media."""
        refuse_misplaced(
            batch["input_ids"],
            batch["position_ids"],
            self._rule,
            attention_mask=batch.get("attention_mask"),
            image_grid_thw=batch.get("image_grid_thw"),
            video_grid_thw=batch.get("video_grid_thw"),
            second_per_grid_ts=batch.get("second_per_grid_ts"),
            samples=[part.name for part in parts],
            num_images=[part.num_images for part in parts],
            num_videos=[part.num_videos for part in parts],
        )
