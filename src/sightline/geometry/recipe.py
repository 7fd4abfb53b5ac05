"""How a decoded picture becomes what the patch embedding takes: filter, scale, normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Backend = Literal["torch", "pil"]
Resample = Literal["bilinear", "bicubic"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelRecipe:
    """What a processor does to pixels, once the size of the picture is known.

    Attributes:
        backend: Whose resampling: ``torch`` (torchvision) or ``pil`` (Pillow). They differ by up to
            three grey levels on the same picture.
        resample: The filter.
        rescale_factor: A grey level of 0 to 255 is multiplied by this; 1 where the processor does
            not rescale.
        mean: Taken off the rescaled level, for red, green and blue; 0 without normalisation.
        std: What remains is divided by this; 1 without normalisation.
    """

    backend: Backend
    resample: Resample
    rescale_factor: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def scale(self) -> tuple[float, ...]:
        """Factor of a grey level, by channel."""
        return tuple(self.rescale_factor / std for std in self.std)

    @property
    def shift(self) -> tuple[float, ...]:
        """What is added to the scaled grey level, by channel."""
        return tuple(-mean / std for mean, std in zip(self.mean, self.std, strict=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelRecipes:
    """The recipes of a run.

    Attributes:
        image: For images.
        video: For frames of videos.
    """

    image: PixelRecipe
    video: PixelRecipe

    @classmethod
    def from_record(cls, record: Mapping[str, Mapping[str, Any]]) -> PixelRecipes:
        """The recipes of a JSON file that ``dataclasses.asdict`` made.

        Raises:
            KeyError: A recipe is missing.
            TypeError: A field is missing, or one too many.
        """
        return cls(
            image=_recipe_of(record["image"]),
            video=_recipe_of(record["video"]),
        )


def _recipe_of(record: Mapping[str, Any]) -> PixelRecipe:
    lists = {name: tuple(record[name]) for name in ("mean", "std")}
    return PixelRecipe(**{**record, **lists})
