"""Position ids: Sightline's engine beside transformers and beside writing the output once.

Run by ``make bench``. The three take turns, and medians count; equality is checked before time
is taken. Batches are kept alive for a while, as a data loader keeps those it has prepared, so
every output is written to memory that is not warm. The engine works on layouts, which the
encoder has made; "from ids" is the drop-in for ``get_rope_index``, which reads them from token
ids first. transformers returns three rows, the engine four: with the text row.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel

from sightline.families import FAMILIES
from sightline.positions import (
    Layout,
    PositionRule,
    Span,
    get_rope_index,
    place_layouts,
    text_span,
    vision_span,
)

IMAGE, VIDEO, TEXT = 7, 8, 1
MERGE = 2
SECONDS = 1.0
REPEATS = 41
KEPT_BATCHES = 8
ROPE = FAMILIES["qwen2_5_vl"].rope
RULE = PositionRule(
    rope=ROPE,
    image_token_id=IMAGE,
    video_token_id=VIDEO,
    spatial_merge_size=MERGE,
    tokens_per_second=2.0,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A batch of equal length, its images of different grids.

    Attributes:
        name: For the table.
        rows: Rows.
        num_tokens: Tokens a row.
        grids: Raw grids of a row's images or videos, spread evenly over it.
    """

    name: str
    rows: int
    num_tokens: int
    grids: tuple[tuple[int, int, int], ...]

    def layouts(self) -> list[list[Layout]]:
        """One sample a row."""
        return [[self._layout()] for _ in range(self.rows)]

    def _layout(self) -> Layout:
        media = [
            vision_span(
                "image" if grid[0] == 1 else "video",
                grid,
                spatial_merge_size=MERGE,
                seconds_per_grid=None if grid[0] == 1 else SECONDS,
            )
            for grid in self.grids
        ]
        text = self.num_tokens - sum(span.num_tokens for span in media)
        each = text // (len(media) + 1)
        spans: list[Span] = []
        for span in media:
            spans += [text_span(each), span]
        return Layout(spans=(*spans, text_span(text - each * len(media))))

    def call(self) -> dict[str, torch.Tensor]:
        """What transformers' method takes."""
        token = {"text": TEXT, "image": IMAGE, "video": VIDEO}
        ids = [
            [token[span.kind] for span in row[0].spans for _ in range(span.num_tokens)]
            for row in self.layouts()
        ]
        made = {"input_ids": torch.tensor(ids)}
        made["attention_mask"] = torch.ones_like(made["input_ids"])
        kinds = (made["input_ids"] == IMAGE) + 2 * (made["input_ids"] == VIDEO)
        made["mm_token_type_ids"] = kinds.int()
        grids = torch.tensor(self.grids * self.rows)
        key = "image_grid_thw" if self.grids[0][0] == 1 else "video_grid_thw"
        made[key] = grids
        if key == "video_grid_thw":
            made["second_per_grid_ts"] = torch.full((len(grids),), SECONDS)
        return made


def _images(count: int, tokens: int) -> tuple[tuple[int, int, int], ...]:
    """Images of about as many tokens each, of four shapes in turn."""
    side = int(tokens**0.5)
    shapes = [(side, side), (side // 2, 2 * side), (2 * side, side // 2), (side, side - 1)]
    return tuple((1, 2 * h, 2 * w) for h, w in (shapes[n % 4] for n in range(count)))


CASES = [
    Case(name="8 x 2k, 1 image", rows=8, num_tokens=2048, grids=_images(1, 256)),
    Case(name="8 x 8k, 16 images", rows=8, num_tokens=8192, grids=_images(16, 256)),
    Case(name="8 x 8k, 64 images", rows=8, num_tokens=8192, grids=_images(64, 64)),
    # As long as it is wide: with a longer one the two do not compute the same positions.
    Case(name="1 x 32k, one video", rows=1, num_tokens=32768, grids=((16, 66, 122),)),
]


def reference_model() -> Qwen2_5_VLModel:
    """The class that computes positions in transformers, without a weight in memory."""
    config = Qwen2_5_VLConfig(image_token_id=IMAGE, video_token_id=VIDEO)
    config.text_config.num_hidden_layers = 1
    config.vision_config.depth = 1
    config.vision_config.tokens_per_second = 2
    with torch.device("meta"):
        return Qwen2_5_VLModel(config)


def in_turn(*calls: Callable[[], object]) -> list[list[float]]:
    """Seconds of every call, taken in turn: a machine that slows down slows all of them."""
    taken: list[list[float]] = [[] for _ in calls]
    kept: list[deque[object]] = [deque(maxlen=KEPT_BATCHES) for _ in calls]
    for turn in range(REPEATS + KEPT_BATCHES):
        for call, times, outputs in zip(calls, taken, kept, strict=True):
            start = time.perf_counter()
            outputs.append(call())
            if turn >= KEPT_BATCHES:
                times.append(time.perf_counter() - start)
    return taken


def ratio(first: list[float], second: list[float]) -> float:
    """Median of the ratios of calls that stood side by side."""
    return median(one / other for one, other in zip(first, second, strict=True))


def compare(model: Qwen2_5_VLModel, case: Case) -> None:
    """Print one line."""
    call, layouts = case.call(), case.layouts()

    def theirs() -> torch.Tensor:
        return model.get_rope_index(**call)[0]

    def ours() -> np.ndarray:
        return place_layouts(layouts, ROPE, tokens_per_second=2.0).model_position_ids

    def from_ids() -> torch.Tensor:
        return get_rope_index(**call, rule=RULE)[0]

    shape = ours().shape
    assert torch.equal(theirs(), from_ids()), f"positions differ: {case.name}"
    assert np.array_equal(theirs().numpy(), ours()[1:]), f"positions differ: {case.name}"
    times = in_turn(theirs, ours, from_ids, lambda: np.full(shape, 7, dtype=np.int64))
    print(
        f"{case.name:<19}{median(times[0]) * 1e3:>9.2f} ms{median(times[1]) * 1e3:>8.3f} ms"
        f"{ratio(times[0], times[1]):>7.0f}x{ratio(times[1], times[3]):>10.1f}x"
        f"{ratio(times[0], times[2]):>11.0f}x"
    )


def growth() -> None:
    """Print time a token from a thousand to a million tokens in one row."""
    print("\none row, an image of 256 tokens every 512\n    tokens       time  a token")
    for tokens in (1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20):
        case = Case(name="", rows=1, num_tokens=tokens, grids=_images(tokens // 512, 256))
        layouts = case.layouts()
        (times,) = in_turn(lambda rows=layouts: place_layouts(rows, ROPE))
        taken = median(times)
        print(f"{tokens:>10}{taken * 1e3:>8.3f} ms{taken / tokens * 1e9:>6.1f} ns")


def main() -> None:
    """Print the tables."""
    model = reference_model()
    print(
        f"{'':<19}{'transformers':>12}{'engine':>11}{'faster':>8}{'of writing':>11}{'from ids':>12}"
    )
    for case in CASES:
        compare(model, case)
    growth()


if __name__ == "__main__":
    main()
