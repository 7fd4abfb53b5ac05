"""How a run's pixels are loaded, and the proof that lean preparation changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from sightline.config import DataConfig
from sightline.data import (
    EncodedSample,
    LeanPixels,
    PatchCache,
    PixelLoader,
    ProcessorPixels,
)
from sightline.errors import RunError
from sightline.geometry import PixelRecipe
from sightline.model import Checkpoint, normalised_patches, patch_features

_MAX_COMPARED = 4
_MAX_LOOKED_AT = 64
_MAX_PATCHES = 256
# Share of the spread of the features. float32 sums in another order; bf16 keeps 8 bits.
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2}


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelProbe:
    """Lean preparation beside the checkpoint's processor, on the first media of a run.

    Attributes:
        num_samples: Samples with media that were compared: the first four with images, and the
            first four with videos.
        num_values: Grey levels that were compared; all of them were equal.
        largest_share: Largest difference of two features of the patch embedding, as a share of
            their standard deviation.
    """

    num_samples: int
    num_values: int
    largest_share: float

    def record(self) -> dict[str, Any]:
        """The numbers for ``run.json``."""
        return asdict(self)


def make_pixels(data: DataConfig, checkpoint: Checkpoint) -> PixelLoader:
    """The loader of pixels that a run's configuration asks for.

    Args:
        data: The configuration's section.
        checkpoint: The opened checkpoint.
    """
    if data.preparation == "processor":
        return ProcessorPixels(checkpoint.processor)
    assert checkpoint.recipes is not None
    cache = PatchCache(Path(data.patch_cache)) if data.patch_cache is not None else None
    return LeanPixels(checkpoint.preprocessing, checkpoint.recipes, cache)


def compare_preparations(
    samples: Sequence[EncodedSample],
    lean: PixelLoader,
    checkpoint: Checkpoint,
    model: torch.nn.Module,
) -> PixelProbe:
    """Prepare the first media of a run both ways; the same levels, and the same features.

    Args:
        samples: The run's samples.
        lean: Its lean loader.
        checkpoint: The opened checkpoint.
        model: The model, taking raw pixels.

    Raises:
        RunError: They differ; says by how much, and on what.
    """
    by_processor = ProcessorPixels(checkpoint.processor)
    num_samples = num_values = 0
    largest = 0.0
    for sample in _with_media(samples):
        own, theirs = lean(sample), by_processor(sample)
        num_samples += 1
        for key, recipe, copies in _kinds(checkpoint):
            if key not in own:
                continue
            _refuse_other_levels(sample, own[key], theirs[key], recipe, copies)
            num_values += own[key].numel()
            largest = max(largest, _feature_difference(own[key], theirs[key], model))
    tolerance = _TOLERANCE.get(_dtype(model), _TOLERANCE[torch.bfloat16])
    if largest > tolerance:
        raise RunError(
            f"lean preparation: features of the patch embedding differ by {largest:.2g} of their "
            f"spread from the processor's, over {tolerance:.2g}.\n"
            "Set data.preparation to processor."
        )
    return PixelProbe(num_samples=num_samples, num_values=num_values, largest_share=largest)


def _with_media(samples: Sequence[EncodedSample]) -> Iterator[EncodedSample]:
    """The first samples with images and the first with videos, of those that are looked at."""
    num_images = num_videos = 0
    for index in range(min(len(samples), _MAX_LOOKED_AT)):
        sample = samples[index]
        has_image, has_video = bool(sample.images), bool(sample.videos)
        if (has_image and num_images < _MAX_COMPARED) or (has_video and num_videos < _MAX_COMPARED):
            num_images += has_image
            num_videos += has_video
            yield sample


def _kinds(checkpoint: Checkpoint) -> list[tuple[str, PixelRecipe, int]]:
    """Argument, recipe, and how often the processor repeats a frame."""
    assert checkpoint.recipes is not None
    copies = checkpoint.preprocessing.image_patching.temporal_patch_size
    return [
        ("pixel_values", checkpoint.recipes.image, copies),
        ("pixel_values_videos", checkpoint.recipes.video, 1),
    ]


def _refuse_other_levels(
    sample: EncodedSample,
    own: torch.Tensor,
    theirs: torch.Tensor,
    recipe: PixelRecipe,
    copies: int,
) -> None:
    made = normalised_patches(own, recipe, copies)
    # Half a grey level: the processor's own floats are far nearer to the level they come from.
    level = min(recipe.scale)
    is_other = (made - theirs).abs() > level / 2 if made.shape == theirs.shape else None
    if is_other is not None and not is_other.any():
        return
    if is_other is None:
        what = f"{tuple(made.shape)} pixels, the processor's are {tuple(theirs.shape)}"
    else:
        levels = float((made - theirs).abs().max()) / level
        what = (
            f"{int(is_other.sum())} of {made.numel()} pixels differ from the processor's, by up to "
            f"{levels:.0f} grey levels"
        )
    raise RunError(
        f"lean preparation: {sample.conversation.origin}: {what}.\n"
        "Set data.preparation to processor."
    )


def _feature_difference(own: torch.Tensor, theirs: torch.Tensor, model: torch.nn.Module) -> float:
    """Largest difference of the features of some patches, as a share of their spread."""
    some = torch.linspace(0, len(own) - 1, min(len(own), _MAX_PATCHES)).long()
    with torch.no_grad():
        given = patch_features(model, own[some].to(_dtype(model)), raw=True).float()
        wanted = patch_features(model, theirs[some].to(_dtype(model)), raw=False).float()
    spread = float(wanted.std())
    return float((given - wanted).abs().max()) / spread if spread > 0 else 0.0


def _dtype(model: torch.nn.Module) -> torch.dtype:
    return next(model.parameters()).dtype
