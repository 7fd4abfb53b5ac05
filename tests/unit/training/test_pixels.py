"""The probe at the start of a run: lean preparation beside the checkpoint's processor."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sightline.config import DataConfig
from sightline.data import EncodedSample, LeanPixels, ProcessorPixels, read_source
from sightline.errors import ConfigError, RunError
from sightline.geometry import PixelRecipes
from sightline.model import Checkpoint, load_weights, open_checkpoint, take_raw_pixels
from sightline.preparation import make_encoder
from sightline.training.pixels import compare_preparations, make_pixels

FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


class Start:
    """A run that is about to begin."""

    def __init__(self, key: str, folder: Path, data_file: Path) -> None:
        # Under the size of the shapes, so that the filter matters.
        images, videos = {"min_pixels": 3136, "max_pixels": 12_544}, {"fps": 4.0}
        data = DataConfig.model_validate(
            {"train": str(data_file), "images": images, "videos": videos}
        )
        self.checkpoint: Checkpoint = open_checkpoint(str(folder), data)
        encoder = make_encoder(self.checkpoint)
        tokens = self.checkpoint.family.tokens.structural()
        self.samples: list[EncodedSample] = [
            encoder.encode(one) for one in read_source(data.train[0], structural_tokens=tokens)
        ]
        self.model: Any = load_weights(str(folder), dtype=torch.float32)

    @property
    def recipes(self) -> PixelRecipes:
        assert self.checkpoint.recipes is not None
        return self.checkpoint.recipes

    def compare(self, lean: Any = None, folded: PixelRecipes | None = None) -> Any:
        """Compare with a loader and recipes that may hold a fault."""
        take_raw_pixels(self.model, self.checkpoint.family, folded or self.recipes)
        lean = lean or LeanPixels(self.checkpoint.preprocessing, self.recipes)
        return compare_preparations(self.samples, lean, self.checkpoint, self.model)


@pytest.fixture(params=FAMILY_KEYS)
def start(
    request: pytest.FixtureRequest, tiny_folder: Callable[[str], Path], shapes_folder: Path
) -> Start:
    return Start(request.param, tiny_folder(request.param), shapes_folder / "train.jsonl")


def test_both_are_the_same(start: Start) -> None:
    probe = start.compare()
    own = LeanPixels(start.checkpoint.preprocessing, start.recipes)
    pictures = [sample for sample in start.samples if sample.images][:4]
    clips = [sample for sample in start.samples if sample.videos][:4]
    counted = sum(
        tensor.numel()
        for sample in pictures + clips
        for key, tensor in own(sample).items()
        if key.startswith("pixel_values")
    )
    assert probe.num_samples == len(pictures) + len(clips)
    assert probe.num_values == counted > 100_000
    assert 0 < probe.largest_share < 1e-5


def test_images_and_videos_are_both_compared(start: Start) -> None:
    """Whatever comes first: a fault in videos is seen where ten pictures stand before them."""
    start.samples.sort(key=lambda sample: bool(sample.videos))
    start.samples[:0] = start.samples[:1] * 10

    class WrongVideos(LeanPixels):
        def __call__(self, sample: EncodedSample) -> dict[str, torch.Tensor]:
            tensors = super().__call__(sample)
            if "pixel_values_videos" in tensors:
                tensors["pixel_values_videos"] = tensors["pixel_values_videos"].flip(0)
            return tensors

    with pytest.raises(RunError, match=r"pixels differ from the processor's"):
        start.compare(WrongVideos(start.checkpoint.preprocessing, start.recipes))


def test_one_grey_level_of_one_pixel_is_seen(start: Start) -> None:
    class OneOff(LeanPixels):
        def __call__(self, sample: EncodedSample) -> dict[str, torch.Tensor]:
            tensors = super().__call__(sample)
            pixels = next(tensors[key] for key in tensors if key.startswith("pixel_values"))
            pixels[3, 5] += 1 if pixels[3, 5] < 255 else -1
            return tensors

    with pytest.raises(RunError) as caught:
        start.compare(OneOff(start.checkpoint.preprocessing, start.recipes))
    first = start.samples[0]
    said = str(caught.value)
    assert said.startswith(f"lean preparation: {first.conversation.origin}: 2 of ")
    assert "pixels differ from the processor's, by up to 1 grey levels" in said
    assert said.endswith("Set data.preparation to processor.")


def test_another_filter_is_seen(start: Start) -> None:
    bilinear = replace(start.recipes, image=replace(start.recipes.image, resample="bilinear"))
    with pytest.raises(RunError, match=r"pixels differ from the processor's, by up to \d+ grey"):
        start.compare(LeanPixels(start.checkpoint.preprocessing, bilinear))


def test_another_normalisation_is_seen(start: Start) -> None:
    """The levels are right; what the patch embedding makes of them is not."""
    image = replace(start.recipes.image, mean=(0.3, 0.3, 0.3))
    with pytest.raises(RunError, match=r"features of the patch embedding differ by [\d.]+ of"):
        start.compare(folded=replace(start.recipes, image=image))


def test_patches_in_another_order_are_seen(start: Start) -> None:
    class Swapped(LeanPixels):
        def __call__(self, sample: EncodedSample) -> dict[str, torch.Tensor]:
            tensors = super().__call__(sample)
            if "pixel_values" in tensors:
                tensors["pixel_values"] = tensors["pixel_values"].roll(1, 0)
            return tensors

    with pytest.raises(RunError, match=r"pixels differ from the processor's"):
        start.compare(Swapped(start.checkpoint.preprocessing, start.recipes))


def test_the_configuration_chooses(start: Start, tmp_path: Path) -> None:
    lean = DataConfig.model_validate({"train": "x.jsonl", "patch_cache": str(tmp_path / "cache")})
    loader = make_pixels(lean, start.checkpoint)
    assert isinstance(loader, LeanPixels)
    loader(start.samples[0])
    assert list((tmp_path / "cache").rglob("*.u8"))
    processed = DataConfig.model_validate({"train": "x.jsonl", "preparation": "processor"})
    assert isinstance(make_pixels(processed, start.checkpoint), ProcessorPixels)


def test_a_processor_that_does_more_is_refused_at_the_start(
    tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder("qwen2_vl"), folder)
    [path] = [
        path for path in folder.glob("*processor_config.json") if "image_mean" in path.read_text()
    ][:1]
    told = json.loads(path.read_text())
    (told.get("image_processor") or told)["resample"] = 0
    path.write_text(json.dumps(told))
    with pytest.raises(ConfigError) as caught:
        open_checkpoint(str(folder), DataConfig.model_validate({"train": "x.jsonl"}))
    assert "data.preparation is lean, but the processor of" in str(caught.value)
    assert "resizes with" in str(caught.value)
    by_processor = {"train": "x.jsonl", "preparation": "processor"}
    opened = open_checkpoint(str(folder), DataConfig.model_validate(by_processor))
    assert opened.recipes is None
