"""What of a sample's pixels is kept: their grids, and a digest of every grey level.

Lean preparation has grey levels, a processor floats that it made of them. Both come to the same
digest where the model sees the same picture: floats are taken back with the recipe that the model
trained with, so another normalisation is another digest too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from sightline.geometry import PixelRecipe, PixelRecipes

_PIXELS = ("pixel_values", "pixel_values_videos")
_GRIDS = ("image_grid_thw", "video_grid_thw")
# How far a float may lie from a grey level: rounding in float32 is a hundredth of this.
_SLACK_LEVELS = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenPixels:
    """The pixels of one sample.

    Attributes:
        grids: Raw patches t, h, w of every image, then of every video.
        digest: Of every grey level; empty where the pixels are none under the recipe.
    """

    grids: list[list[int]]
    digest: str


def seen_pixels(
    inputs: Mapping[str, torch.Tensor], recipes: PixelRecipes | None, temporal_patch_size: int
) -> SeenPixels:
    """What is kept of the pixels of a model call.

    Args:
        inputs: The call's ``pixel_values``, ``pixel_values_videos`` and grids, raw or processed.
        recipes: What the model trained with; None where no recipe tells it, and the floats
            themselves are compared.
        temporal_patch_size: Frames of a temporal grid; processed still pictures have as many
            copies.
    """
    grids = [row for key in _GRIDS if key in inputs for row in inputs[key].tolist()]
    digest = hashlib.blake2b(digest_size=16)
    for key in _PIXELS:
        if key not in inputs:
            continue
        digest.update(key.encode())
        pixels = inputs[key].cpu()
        if recipes is None:
            digest.update(pixels.float().contiguous().numpy().tobytes())
            continue
        is_still = key == "pixel_values"
        recipe = recipes.image if is_still else recipes.video
        levels = _levels(pixels, recipe, temporal_patch_size if is_still else 1)
        if levels is None:
            return SeenPixels(grids=grids, digest="")
        digest.update(levels.numpy().tobytes())
    return SeenPixels(grids=grids, digest=digest.hexdigest())


def _levels(pixels: torch.Tensor, recipe: PixelRecipe, num_copies: int) -> torch.Tensor | None:
    """(num_patches, numbers) uint8; None where they are no grey levels under the recipe."""
    if pixels.dtype == torch.uint8:
        return pixels.contiguous()
    split = pixels.double().reshape(len(pixels), 3, num_copies, -1)
    scale = torch.tensor(recipe.scale, dtype=torch.float64)[:, None, None]
    shift = torch.tensor(recipe.shift, dtype=torch.float64)[:, None, None]
    exact = (split - shift) / scale
    levels = exact.round()
    is_level = (exact - levels).abs().max() < _SLACK_LEVELS
    is_level &= bool((levels >= 0).all()) and bool((levels <= 255).all())
    is_level &= bool((levels == levels[:, :, :1]).all())
    return levels[:, :, 0].to(torch.uint8).flatten(1) if is_level else None
