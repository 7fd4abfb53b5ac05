"""A picture stays with its own placeholder: in its sample, in a batch, and in a packed row (A7).

Pictures here are of one size, so that nothing but what is in them tells them apart: token counts,
grids and positions are the same whichever stands where.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from sightline.config import DataConfig
from sightline.data import (
    Collator,
    Conversation,
    EncodedSample,
    ImagePart,
    LeanPixels,
    Message,
    Origin,
    PixelLoader,
    ProcessorPixels,
    TextPart,
)
from sightline.evaluation import seen_pixels
from sightline.model import Checkpoint, load_weights, open_checkpoint
from sightline.preparation import make_encoder

FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
COLOURS = {"red": (200, 10, 10), "green": (10, 160, 10), "blue": (10, 10, 220)}
SIDE = 128


class Bench:
    """A checkpoint, and samples over pictures that differ in their colour alone."""

    def __init__(self, model: Path, folder: Path) -> None:
        data = DataConfig.model_validate({"train": "unused.jsonl"})
        self.checkpoint: Checkpoint = open_checkpoint(str(model), data)
        self.encoder = make_encoder(self.checkpoint)
        self.folder = folder
        for name, colour in COLOURS.items():
            Image.new("RGB", (SIDE, SIDE), colour).save(folder / f"{name}.png")

    def sample(self, *colours: str) -> EncodedSample:
        """Its pictures stand in this order, with words between them."""
        parts: list[Any] = []
        for colour in colours:
            parts.append(ImagePart(path=self.folder / f"{colour}.png", field="image"))
            parts.append(TextPart(text=" and "))
        turns = (
            Message(role="user", parts=tuple(parts), field="messages[0]"),
            Message(role="assistant", parts=(TextPart(text="Two."),), field="messages[1]"),
        )
        origin = Origin(file=self.folder / "x.jsonl", line=1, index=0)
        return self.encoder.encode(Conversation(messages=turns, origin=origin))

    def loader(self, kind: str) -> PixelLoader:
        if kind == "processor":
            return ProcessorPixels(self.checkpoint.processor)
        assert self.checkpoint.recipes is not None
        return LeanPixels(self.checkpoint.preprocessing, self.checkpoint.recipes)

    def collator(self, kind: str, *, packs: bool) -> Collator:
        return Collator(
            pixels=self.loader(kind),
            rule=self.checkpoint.position_rule,
            pad_token_id=0,
            packs=packs,
        )


@pytest.fixture(scope="module", params=FAMILY_KEYS)
def bench(
    request: pytest.FixtureRequest,
    tiny_folder: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Bench:
    return Bench(tiny_folder(request.param), tmp_path_factory.mktemp("colours"))


def _colours(batch: dict[str, torch.Tensor]) -> list[str]:
    """The colour of every picture of a batch, by the channel that is highest in its patches."""
    sizes = batch["image_grid_thw"].prod(dim=1).tolist()
    names = list(COLOURS)
    found = []
    for pixels in batch["pixel_values"].float().split(sizes):
        means = pixels.reshape(len(pixels), 3, -1).mean(dim=(0, 2))
        found.append(names[int(means.argmax())])
    return found


@pytest.mark.parametrize("packs", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("kind", ["lean", "processor"])
def test_pictures_follow_their_placeholders(bench: Bench, kind: str, packs: bool) -> None:
    """In every order of the samples of a batch, and of the pictures of a sample."""
    collate = bench.collator(kind, packs=packs)
    orders = [("red", "green"), ("blue",), ("green", "red", "blue")]
    for chosen in permutations(orders):
        batch = collate([bench.sample(*colours) for colours in chosen])
        assert _colours(batch) == [colour for colours in chosen for colour in colours]


def test_a_loader_that_changes_their_order_would_be_seen(bench: Bench) -> None:
    """The planted fault: grids, ids and positions pass every check; the colours do not."""
    collate = bench.collator("lean", packs=True)

    def swapped(sample: EncodedSample) -> dict[str, torch.Tensor]:
        return bench.loader("lean")(replace(sample, images=sample.images[::-1]))

    collate._pixels = swapped  # type: ignore[assignment]
    assert _colours(collate([bench.sample("red", "green")])) == ["green", "red"]


@torch.no_grad()
def test_the_certificate_tells_two_pictures_that_changed_places(bench: Bench) -> None:
    """What `preprocessing.pixels` compares is another digest; the grids are the same."""
    batches = [
        bench.collator("processor", packs=False)([bench.sample(*colours)])
        for colours in (("red", "green"), ("green", "red"), ("red", "green"))
    ]
    seen = [seen_pixels(batch, bench.checkpoint.recipes, 2) for batch in batches]
    assert seen[0] == seen[2]
    assert seen[0].grids == seen[1].grids
    assert seen[0].digest != seen[1].digest
    # And it matters to the model, though nothing raises.
    model: Any = load_weights(bench.checkpoint.source, dtype=torch.float32)
    for batch in batches:
        del batch["labels"]
    first, second = (model(**batch).logits for batch in batches[:2])
    assert (first - second).abs().max() > 0.1
