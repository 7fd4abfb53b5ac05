"""Grids and digests of pixels: the same for lean and processed, another for every other picture."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sightline.evaluation import seen_pixels
from sightline.geometry import PixelRecipe, PixelRecipes
from sightline.model import normalised_patches

RECIPE = PixelRecipe(
    backend="torch",
    resample="bicubic",
    rescale_factor=1 / 255,
    mean=(0.48, 0.46, 0.41),
    std=(0.27, 0.26, 0.28),
)
RECIPES = PixelRecipes(image=RECIPE, video=replace(RECIPE, mean=(0.5, 0.5, 0.5)))


def _inputs(**changed: torch.Tensor) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        "pixel_values": torch.randint(0, 256, (24, 588), generator=generator, dtype=torch.uint8),
        "image_grid_thw": torch.tensor([[1, 4, 6]]),
        "pixel_values_videos": torch.randint(
            0, 256, (16, 1176), generator=generator, dtype=torch.uint8
        ),
        "video_grid_thw": torch.tensor([[2, 2, 4]]),
        **changed,
    }


def _processed(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return inputs | {
        "pixel_values": normalised_patches(inputs["pixel_values"], RECIPES.image, 2),
        "pixel_values_videos": normalised_patches(inputs["pixel_values_videos"], RECIPES.video, 1),
    }


def test_lean_and_processed_are_the_same() -> None:
    lean = seen_pixels(_inputs(), RECIPES, 2)
    assert lean.grids == [[1, 4, 6], [2, 2, 4]]
    assert len(lean.digest) == 32
    assert seen_pixels(_processed(_inputs()), RECIPES, 2) == lean


@pytest.mark.parametrize("key", ["pixel_values", "pixel_values_videos"])
def test_one_grey_level_is_another_digest(key: str) -> None:
    lean, changed = seen_pixels(_inputs(), RECIPES, 2), _inputs()
    changed[key][7, 9] ^= 1
    assert seen_pixels(changed, RECIPES, 2).digest not in ("", lean.digest)
    assert seen_pixels(_processed(changed), RECIPES, 2).digest not in ("", lean.digest)


def test_another_normalisation_is_no_picture_at_all() -> None:
    processed = _processed(_inputs())
    other = PixelRecipes(image=replace(RECIPE, mean=(0.4, 0.4, 0.4)), video=RECIPES.video)
    assert seen_pixels(processed, other, 2).digest == ""


def test_two_frames_of_a_still_picture_that_differ_are_none() -> None:
    processed = _processed(_inputs())
    frames = processed["pixel_values"].reshape(24, 3, 2, 196)
    frames[5, 1, 1] = frames[5, 1, 0].roll(1)
    assert seen_pixels(processed, RECIPES, 2).digest == ""


def test_without_a_recipe_floats_are_compared() -> None:
    processed = _processed(_inputs())
    first = seen_pixels(processed, None, 2)
    assert first == seen_pixels({**processed}, None, 2)
    processed["pixel_values"] = processed["pixel_values"] + 1e-6
    assert seen_pixels(processed, None, 2).digest != first.digest
