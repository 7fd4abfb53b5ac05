"""Models and batches for what is estimated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sightline.config import TrainingConfig, TuningConfig
from sightline.model import (
    Checkpoint,
    attend_by_segments,
    load_weights,
    open_checkpoint,
    return_losses,
    skeleton,
    take_raw_pixels,
)
from sightline.positions import layout_of_ids, place_batch, place_layouts
from sightline.tuning import TuningPlan, apply_plan, resolve_plan


class Planned:
    """A tiny model with a plan, on the meta device or real, and batches for it."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        tuning: dict[str, Any],
        *,
        real: bool,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        # Attention is chosen in the configuration, which a skeleton shares.
        self.checkpoint = checkpoint = replace(checkpoint, config=deepcopy(checkpoint.config))
        self.family = checkpoint.family
        model: Any = (
            load_weights(checkpoint.source, dtype=dtype)
            if real
            else skeleton(checkpoint, dtype=dtype)
        )
        attend_by_segments(model, checkpoint.family)
        assert checkpoint.recipes is not None
        take_raw_pixels(model, checkpoint.family, checkpoint.recipes)
        self.plan: TuningPlan = resolve_plan(
            model, checkpoint.family, TuningConfig.model_validate(tuning), TrainingConfig()
        )
        self.model: Any = apply_plan(return_losses(model, kind="chunked"), self.plan)
        self.real = real

    def batch(
        self, grids: Sequence[tuple[int, int, int]], *, text: int = 40, answer: int = 20
    ) -> dict[str, torch.Tensor]:
        """One row: pictures, then words; the last ones have a loss."""
        rule = self.checkpoint.position_rule
        merge = rule.spatial_merge_size**2
        image = rule.image_token_id
        assert image is not None
        ids = [5]
        for t, h, w in grids:
            ids += [self._start, *[image] * (t * h * w // merge), 6]
        ids += [7] * (text + answer)
        input_ids = torch.tensor([ids])
        labels = torch.full_like(input_ids, -100)
        labels[:, -answer:] = 7
        mask = torch.ones_like(input_ids)
        grid = torch.tensor(list(grids))
        placed = place_batch(input_ids, rule, attention_mask=mask, image_grid_thw=grid)
        side = self.checkpoint.preprocessing.image_patching.patch_size
        return {
            "input_ids": input_ids,
            "labels": labels,
            "attention_mask": mask,
            "position_ids": placed.model_position_ids,
            "image_grid_thw": grid,
            "pixel_values": torch.zeros(
                int(grid.prod(-1).sum()),
                3 * side**2,
                dtype=torch.uint8,
                device="cpu" if self.real else "meta",
            ),
        }

    def packed_row(
        self, samples: Sequence[tuple[Sequence[tuple[int, int, int]], int, int]]
    ) -> dict[str, torch.Tensor]:
        """One row of samples end to end: the grids of each, its words without and with a loss."""
        alone = [self.batch(grids, text=text, answer=answer) for grids, text, answer in samples]
        rule = self.checkpoint.position_rule
        ends = np.cumsum([one["input_ids"].shape[1] for one in alone])
        placed = place_layouts(
            [
                [
                    layout_of_ids(
                        one["input_ids"][0].numpy(), rule, image_grid_thw=one["image_grid_thw"]
                    )
                    for one in alone
                ]
            ],
            rule.rope,
            tokens_per_second=rule.tokens_per_second,
            width=int(ends[-1]),
        )
        row = {
            name: torch.cat([one[name] for one in alone], dim=dim)
            for name, dim in (
                ("input_ids", 1),
                ("labels", 1),
                ("image_grid_thw", 0),
                ("pixel_values", 0),
            )
        }
        row["labels"][0, [0, *ends[:-1]]] = -100
        return row | {
            "position_ids": torch.from_numpy(placed.model_position_ids),
            "cu_seqlens": torch.tensor([0, *ends], dtype=torch.int32),
        }

    @property
    def _start(self) -> int:
        tokenizer = self.checkpoint.processor.tokenizer
        return tokenizer.convert_tokens_to_ids(self.family.tokens.vision_start)


@pytest.fixture
def planned(tiny_folder: Callable[[str], Path]) -> Callable[..., Planned]:
    """A planned tiny model of a family."""

    def make(
        family: str,
        tuning: dict[str, Any],
        *,
        real: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> Planned:
        checkpoint = open_checkpoint(str(tiny_folder(family)))
        return Planned(checkpoint, tuning, real=real, dtype=dtype)

    return make
