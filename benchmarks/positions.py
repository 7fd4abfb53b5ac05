"""Position ids: Sightline's engine beside transformers, on the same batches.

Run by ``make bench``. Images only, because on videos the two do not compute the same positions
(see docs/decisions/0002-positions-are-always-ours.md). Equality is checked before time is
taken; the two take turns, and medians count.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel

from sightline.families import FAMILIES
from sightline.positions import PositionRule, place_batch

IMAGE, VIDEO, TEXT = 7, 8, 1
GRID = (1, 32, 32)
MERGE = 2
TOKENS_AN_IMAGE = GRID[0] * GRID[1] * GRID[2] // MERGE**2
REPEATS = 21


class Pair(NamedTuple):
    """Medians of two calls in milliseconds, and the median of their ratios."""

    first: float
    second: float
    ratio: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A batch of equal rows.

    Attributes:
        batch: Rows.
        num_tokens: Tokens a row.
        num_images: Images a row, of 256 tokens each.
    """

    batch: int
    num_tokens: int
    num_images: int

    def input_ids(self) -> torch.Tensor:
        """(batch, seq) int64. Text and images in turn, and text up to the end."""
        row = torch.full((self.num_tokens,), TEXT)
        stride = self.num_tokens // max(self.num_images, 1)
        for index in range(self.num_images):
            start = index * stride + 4
            row[start : start + TOKENS_AN_IMAGE] = IMAGE
        return row.repeat(self.batch, 1)


CASES = [
    Case(batch=8, num_tokens=2048, num_images=1),
    Case(batch=8, num_tokens=8192, num_images=16),
    Case(batch=8, num_tokens=32768, num_images=64),
    Case(batch=1, num_tokens=32768, num_images=1),
]


def reference_model() -> Qwen2_5_VLModel:
    """The class that computes positions in transformers, without a weight in memory."""
    config = Qwen2_5_VLConfig(image_token_id=IMAGE, video_token_id=VIDEO)
    config.text_config.num_hidden_layers = 1
    config.vision_config.depth = 1
    with torch.device("meta"):
        return Qwen2_5_VLModel(config)


def milliseconds(first: Callable[[], object], second: Callable[[], object]) -> Pair:
    """Medians of two calls, taken in turn: a machine that slows down slows both."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(REPEATS):
        for call, taken in zip((first, second), times, strict=True):
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
    ratios = [one / other for one, other in zip(*times, strict=True)]
    return Pair(median(times[0]) * 1000, median(times[1]) * 1000, median(ratios))


def main() -> None:
    """Print one line a case."""
    model = reference_model()
    rule = PositionRule(
        rope=FAMILIES["qwen2_5_vl"].rope,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        spatial_merge_size=MERGE,
        tokens_per_second=2.0,
    )
    print(f"{'batch':>14} {'images':>7} {'transformers':>13} {'sightline':>10} {'ratio':>6}")
    for case in CASES:
        ids = case.input_ids()
        grids = torch.tensor([GRID] * (case.batch * case.num_images))
        kinds = (ids == IMAGE).int()
        mask = torch.ones_like(ids)

        def theirs(
            ids: torch.Tensor = ids,
            kinds: torch.Tensor = kinds,
            grids: torch.Tensor = grids,
            mask: torch.Tensor = mask,
        ) -> torch.Tensor:
            return model.get_rope_index(
                ids, mm_token_type_ids=kinds, image_grid_thw=grids, attention_mask=mask
            )[0]

        def ours(ids: torch.Tensor = ids, grids: torch.Tensor = grids) -> torch.Tensor:
            return place_batch(ids, rule, image_grid_thw=grids).model_position_ids[1:]

        assert torch.equal(ours(), theirs()), f"positions differ: {case}"
        took = milliseconds(theirs, ours)
        shape = f"{case.batch} x {case.num_tokens}"
        print(
            f"{shape:>14} {case.num_images:>7} {took.first:>10.2f} ms {took.second:>7.2f} ms "
            f"{took.ratio:>5.1f}x"
        )


if __name__ == "__main__":
    main()
