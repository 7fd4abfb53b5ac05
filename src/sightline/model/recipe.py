"""What a checkpoint's processor does to pixels, as a recipe, or why it cannot be told as one."""

from __future__ import annotations

from typing import Any

from PIL import Image
from transformers.image_processing_backends import PilBackend

from sightline.geometry import PixelRecipe, PixelRecipes, Resample

_FILTERS: dict[int, Resample] = {
    int(Image.Resampling.BILINEAR): "bilinear",
    int(Image.Resampling.BICUBIC): "bicubic",
}
_STEPS_BESIDE = ("do_center_crop", "do_pad")


def read_recipes(processor: Any) -> PixelRecipes | None:
    """The recipes of a processor; None where `why_no_recipe` has a reason.

    Args:
        processor: The checkpoint's transformers processor.
    """
    if why_no_recipe(processor) is not None:
        return None
    return PixelRecipes(
        image=_recipe(processor.image_processor), video=_recipe(processor.video_processor)
    )


def why_no_recipe(processor: Any) -> str | None:
    """What a processor does that no recipe tells; None where there is nothing.

    Args:
        processor: The checkpoint's transformers processor.
    """
    for part in (processor.image_processor, processor.video_processor):
        name = type(part).__name__
        if not part.do_resize:
            return f"{name} does not resize (do_resize is false)"
        for step in _STEPS_BESIDE:
            if getattr(part, step, None):
                return f"{name} has {step}"
        if part.resample is None or int(part.resample) not in _FILTERS:
            return f"{name} resizes with {part.resample!r}, not bicubic or bilinear"
        if part.do_normalize and not (_are_three(part.image_mean) and _are_three(part.image_std)):
            return f"{name} normalises with {part.image_mean} and {part.image_std}"
    return None


def _recipe(part: Any) -> PixelRecipe:
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if part.do_normalize:
        mean, std = _three(part.image_mean), _three(part.image_std)
    is_pillow = issubclass(type(part), PilBackend)
    return PixelRecipe(
        backend="pil" if is_pillow else "torch",
        resample=_FILTERS[int(part.resample)],
        rescale_factor=float(part.rescale_factor) if part.do_rescale else 1.0,
        mean=mean,
        std=std,
    )


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _are_three(values: Any) -> bool:
    return isinstance(values, list | tuple) and len(values) == 3
