"""Lean preparation gives the grey levels of the family's own processor, before it normalises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from sightline.config import DataConfig
from sightline.data import Conversation, ImagePart, LeanPixels, Message, Origin, TextPart, VideoPart
from sightline.data.pixels import decoding, load_pixels
from sightline.geometry import Patching, image_patches, joined_patches, video_patches
from sightline.model import Checkpoint, open_checkpoint
from sightline.model.recipe import read_recipes, why_no_recipe
from sightline.preparation import make_encoder

FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


def _open(folder: Path, max_pixels: int) -> Checkpoint:
    data = DataConfig.model_validate(
        {"train": "unused.jsonl", "images": {"max_pixels": max_pixels}, "videos": {"fps": 4.0}}
    )
    return open_checkpoint(str(folder), data)


@pytest.fixture(scope="module", params=FAMILY_KEYS)
def checkpoint(request: pytest.FixtureRequest, tiny_folder: Callable[[str], Path]) -> Checkpoint:
    return _open(tiny_folder(request.param), 200_704)


def _noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Smooth enough for a JPEG, with edges everywhere for the filter."""
    rng = np.random.default_rng(width * 10_000 + height)
    channels = len(Image.new(mode, (1, 1)).getbands())
    small = rng.integers(0, 256, (max(2, height // 7), max(2, width // 5), channels))
    bands = [
        Image.fromarray(small[:, :, band].astype(np.uint8)).resize((width, height))
        for band in range(channels)
    ]
    return Image.merge(mode, bands) if channels > 1 else bands[0]


def _pictures(folder: Path) -> dict[str, Path]:
    """One file of every kind that is decoded in another way."""
    exif = Image.Exif()
    exif[0x0112] = 6
    made: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "jpeg": (_noise(641, 479), "jpg", {"quality": 90}),
        "jpeg without subsampling": (_noise(500, 333), "jpg", {"quality": 95, "subsampling": 0}),
        "progressive jpeg": (_noise(333, 501), "jpg", {"progressive": True, "quality": 80}),
        "grey jpeg": (_noise(300, 200, "L"), "jpg", {}),
        "turned jpeg": (_noise(400, 300), "jpg", {"exif": exif}),
        "cmyk jpeg": (_noise(310, 210, "CMYK"), "jpg", {}),
        "png": (_noise(280, 420), "png", {}),
        "png with alpha": (_noise(150, 90, "RGBA"), "png", {}),
        "palette": (_noise(200, 200).quantize(64), "png", {}),
        "tiny": (_noise(9, 5), "png", {}),
        "strip": (_noise(1900, 10), "jpg", {}),
        "exactly its size": (_noise(280, 280), "jpg", {}),
    }
    paths = {}
    for name, (image, kind, options) in made.items():
        paths[name] = folder / f"{name.replace(' ', '_')}.{kind}"
        image.save(paths[name], **options)
    return paths


def _sample(checkpoint: Checkpoint, part: ImagePart | VideoPart) -> Any:
    question = Message(role="user", parts=(part, TextPart(text="What?")), field="messages[0]")
    answer = Message(role="assistant", parts=(TextPart(text="That."),), field="messages[1]")
    origin = Origin(file=Path("x.jsonl"), line=1, index=0)
    conversation = Conversation(messages=(question, answer), origin=origin)
    return make_encoder(checkpoint).encode(conversation)


def _levels(pixel_values: torch.Tensor, part: Any) -> torch.Tensor:
    """Grey levels that a processor normalised: (num_patches, 3, frames, numbers) uint8."""
    split = pixel_values.double().reshape(len(pixel_values), 3, part.temporal_patch_size, -1)
    std = torch.tensor(part.image_std, dtype=torch.float64)[:, None, None]
    mean = torch.tensor(part.image_mean, dtype=torch.float64)[:, None, None]
    levels = (split * std + mean) * 255
    assert (levels - levels.round()).abs().max() < 1e-3
    return levels.round().to(torch.uint8)


KINDS = (
    "jpeg",
    "jpeg without subsampling",
    "progressive jpeg",
    "grey jpeg",
    "turned jpeg",
    "cmyk jpeg",
    "png",
    "png with alpha",
    "palette",
    "tiny",
    "strip",
    "exactly its size",
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return _pictures(tmp_path_factory.mktemp("pictures"))


def _compare(checkpoint: Checkpoint, path: Path) -> None:
    assert checkpoint.recipes is not None
    sample = _sample(checkpoint, ImagePart(path=path, field="image"))
    own = LeanPixels(checkpoint.preprocessing, checkpoint.recipes)(sample)
    theirs = load_pixels(sample, checkpoint.processor)
    assert own["image_grid_thw"].tolist() == theirs["image_grid_thw"].tolist()
    levels = _levels(theirs["pixel_values"], checkpoint.processor.image_processor)
    # The processor stands a still picture twice, for the two frames of a temporal patch.
    assert torch.equal(levels[:, :, 0], levels[:, :, 1])
    assert own["pixel_values"].dtype == torch.uint8
    assert torch.equal(own["pixel_values"], levels[:, :, 0].flatten(1))


@pytest.mark.parametrize("kind", KINDS)
def test_grey_levels_of_an_image(
    kind: str, checkpoint: Checkpoint, pictures: dict[str, Path]
) -> None:
    _compare(checkpoint, pictures[kind])


@pytest.mark.parametrize("max_pixels", [1_003_520, 589_824, 50_176])
def test_grey_levels_at_another_size(
    max_pixels: int, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    _noise(1280, 960).save(tmp_path / "large.jpg", quality=90)
    _compare(_open(tiny_folder("qwen2_5_vl"), max_pixels), tmp_path / "large.jpg")


@pytest.mark.parametrize("kind", ["jpeg", "turned jpeg", "png with alpha", "tiny"])
def test_grey_levels_of_the_processor_that_resizes_with_pillow(
    kind: str, tiny_folder: Callable[[str], Path], pictures: dict[str, Path]
) -> None:
    checkpoint = _open(tiny_folder("qwen2_vl"), 200_704)
    own = checkpoint.processor.image_processor
    checkpoint.processor.image_processor = Qwen2VLImageProcessorPil(
        size=own.size, patch_size=own.patch_size, merge_size=own.merge_size
    )
    recipes = read_recipes(checkpoint.processor)
    assert recipes is not None
    assert recipes.image.backend == "pil"
    object.__setattr__(checkpoint, "recipes", recipes)
    _compare(checkpoint, pictures[kind])


def test_grey_levels_of_a_video(checkpoint: Checkpoint, shapes_folder: Path) -> None:
    assert checkpoint.recipes is not None
    for path in sorted((shapes_folder / "videos").glob("*.mp4")):
        sample = _sample(checkpoint, VideoPart(path=path, field="video"))
        own = LeanPixels(checkpoint.preprocessing, checkpoint.recipes)(sample)
        theirs = load_pixels(sample, checkpoint.processor)
        levels = _levels(theirs["pixel_values_videos"], checkpoint.processor.video_processor)
        assert torch.equal(own["pixel_values_videos"], levels.flatten(1))
        assert own["video_grid_thw"].tolist() == theirs["video_grid_thw"].tolist()
        torch.testing.assert_close(own["second_per_grid_ts"], theirs["second_per_grid_ts"])


def test_an_ordinary_jpeg_does_not_go_through_pillow(
    pictures: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fast way is taken where it may be, and only there."""
    slow: list[str] = []
    real = decoding.load_image

    def counted(path: Path, **options: Any) -> Image.Image:
        slow.append(path.stem.replace("_", " "))
        return real(path, **options)

    monkeypatch.setattr(decoding, "load_image", counted)
    for path in pictures.values():
        part = ImagePart(path=path, field="image")
        decoding.decode_picture(part, Origin(file=Path("x.jsonl"), line=1, index=0))
    fast = {"jpeg", "jpeg without subsampling", "progressive jpeg", "grey jpeg", "strip"}
    assert set(slow) == set(KINDS) - fast - {"exactly its size"}


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.sampled_from([(14, 2), (16, 2)]))
@settings(deadline=None, max_examples=40)
def test_patches_are_the_picture_again(rows: int, across: int, frames: int, sizes: Any) -> None:
    side, merge = sizes
    patching = Patching(patch_size=side, temporal_patch_size=2, spatial_merge_size=merge)
    height, width = rows * side * merge, across * side * merge
    rng = np.random.default_rng(rows * 100 + across * 10 + frames)
    clip = rng.integers(0, 256, (frames, 3, height, width), dtype=np.uint8)
    grid = (1, height // side, width // side)
    again = joined_patches(image_patches(clip[0], patching), grid, patching)
    np.testing.assert_array_equal(again[0], clip[0].transpose(1, 2, 0))
    filled = np.concatenate([clip, clip[-1:]]) if frames % 2 else clip
    again = joined_patches(video_patches(clip, patching), (len(filled) // 2, *grid[1:]), patching)
    np.testing.assert_array_equal(again, filled.transpose(0, 2, 3, 1))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"do_resize": False}, "Qwen2VLImageProcessor does not resize (do_resize is false)"),
        ({"do_pad": True}, "Qwen2VLImageProcessor has do_pad"),
        ({"resample": 0}, "Qwen2VLImageProcessor resizes with 0, not bicubic or bilinear"),
        ({"image_mean": [0.5]}, "Qwen2VLImageProcessor normalises with [0.5] and "),
    ],
)
def test_a_processor_that_no_recipe_tells(
    change: dict[str, Any], reason: str, tiny_folder: Callable[[str], Path]
) -> None:
    processor = _open(tiny_folder("qwen2_vl"), 200_704).processor
    assert why_no_recipe(processor) is None
    for name, value in change.items():
        setattr(processor.image_processor, name, value)
    assert str(why_no_recipe(processor)).startswith(reason)
    assert read_recipes(processor) is None
