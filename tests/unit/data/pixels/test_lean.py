"""Lean loading: what decides the patches names their entry in the cache, and changes are seen."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.config import DataConfig
from sightline.data import (
    Conversation,
    EncodedSample,
    ImagePart,
    LeanPixels,
    Message,
    Origin,
    PatchCache,
    TextPart,
    VideoPart,
    load_pixels,
)
from sightline.errors import MediaError
from sightline.geometry import PixelRecipes
from sightline.model import Checkpoint, open_checkpoint
from sightline.preparation import make_encoder


@pytest.fixture
def checkpoint(tiny_folder: Callable[[str], Path]) -> Checkpoint:
    images, videos = {"min_pixels": 3136, "max_pixels": 12_544}, {"fps": 2.0}
    data = DataConfig.model_validate({"train": "x", "images": images, "videos": videos})
    return open_checkpoint(str(tiny_folder("qwen2_5_vl")), data)


def _sample(checkpoint: Checkpoint, part: ImagePart | VideoPart) -> EncodedSample:
    asked = Message(role="user", parts=(part, TextPart(text="What?")), field="messages[0]")
    said = Message(role="assistant", parts=(TextPart(text="That."),), field="messages[1]")
    origin = Origin(file=Path("rows.jsonl"), line=3, index=2)
    return make_encoder(checkpoint).encode(Conversation(messages=(asked, said), origin=origin))


def _recipes(checkpoint: Checkpoint, **image: Any) -> PixelRecipes:
    assert checkpoint.recipes is not None
    return replace(checkpoint.recipes, image=replace(checkpoint.recipes.image, **image))


def _picture(path: Path, width: int = 300, height: int = 200) -> ImagePart:
    rng = np.random.default_rng(width)
    Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    return ImagePart(path=path, field="images[0]")


@pytest.mark.parametrize("change", [{"resample": "bilinear"}, {"backend": "pil"}])
def test_another_filter_has_another_entry(
    change: dict[str, str], checkpoint: Checkpoint, tmp_path: Path
) -> None:
    sample = _sample(checkpoint, _picture(tmp_path / "a.png"))
    pre, cache = checkpoint.preprocessing, PatchCache(tmp_path / "cache")
    LeanPixels(pre, _recipes(checkpoint), cache)(sample)
    other = _recipes(checkpoint, **change)
    cached = LeanPixels(pre, other, cache)(sample)["pixel_values"]
    assert torch.equal(cached, LeanPixels(pre, other)(sample)["pixel_values"])
    assert not torch.equal(cached, LeanPixels(pre, _recipes(checkpoint))(sample)["pixel_values"])


def test_another_size_of_as_many_patches_has_another_entry(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """A planned size that has as many patches: 4 x 8 or 8 x 4."""
    sample = _sample(checkpoint, _picture(tmp_path / "a.png"))
    pre, cache = checkpoint.preprocessing, PatchCache(tmp_path / "cache")
    side = pre.image_patching.patch_size
    made = []
    for rows, across in ((4, 8), (8, 4)):
        image = replace(
            sample.images[0], resized=(rows * side, across * side), grid_thw=(1, rows, across)
        )
        seen = replace(sample, images=(image,))
        made.append(LeanPixels(pre, _recipes(checkpoint), cache)(seen)["pixel_values"])
    assert made[0].shape == made[1].shape
    assert not torch.equal(made[0], made[1])


def test_other_frames_of_a_video_have_another_entry(
    checkpoint: Checkpoint, shapes_folder: Path, tmp_path: Path
) -> None:
    path = sorted((shapes_folder / "videos").glob("*.mp4"))[0]
    sample = _sample(checkpoint, VideoPart(path=path, field="videos[0]"))
    [video] = sample.videos
    indices = video.frame_indices
    taken = replace(video.taken, indices=(*(index + 1 for index in indices[:-1]), indices[-1]))
    later = replace(video, taken=taken)
    pre, cache = checkpoint.preprocessing, PatchCache(tmp_path / "cache")
    load = LeanPixels(pre, _recipes(checkpoint), cache)
    first = load(sample)["pixel_values_videos"]
    other = load(replace(sample, videos=(later,)))["pixel_values_videos"]
    assert first.shape == other.shape
    assert not torch.equal(first, other)


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_a_picture_over_the_usual_limit(
    kind: str, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planned under a limit of the run's own, it is loaded too, and nothing is warned of."""
    part = _picture(tmp_path / f"a.{kind}")
    sample = _sample(checkpoint, part)
    for module in ("decoding", "processed"):
        monkeypatch.setattr(f"sightline.data.pixels.{module}.MAX_FILE_PIXELS", 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        raw = LeanPixels(checkpoint.preprocessing, _recipes(checkpoint))(sample)
        load_pixels(sample, checkpoint.processor)
    assert raw["pixel_values"].dtype == torch.uint8


def test_a_picture_of_another_size_than_planned(checkpoint: Checkpoint, tmp_path: Path) -> None:
    sample = _sample(checkpoint, _picture(tmp_path / "a.png"))
    # The same grid: only the size of the file tells.
    _picture(tmp_path / "a.png", width=301)
    with pytest.raises(MediaError) as caught:
        LeanPixels(checkpoint.preprocessing, _recipes(checkpoint))(sample)
    assert str(caught.value) == (
        f"rows.jsonl:3: images[0]: {tmp_path / 'a.png'}: it is 301 x 200 pixels now, and was "
        "300 x 200 when the data were read.\n"
        "The file changed since: start again, and it is read anew."
    )
