"""Lean preparation: pixels travel as bytes, a still picture once, and are normalised on the device.

transformers' processors make 32-bit floats, and copy a still picture for the second frame that the
patch embedding takes: eight times the bytes. Here a sample's pixels are the resized picture itself,
cut into patches. What is left out is done by `sightline.model.raw_pixels`, inside the patch
embedding.
"""

from __future__ import annotations

import numpy as np
import torch

from sightline.data.conversation import Origin
from sightline.data.encode import EncodedSample
from sightline.data.media import PlannedImage, PlannedVideo
from sightline.data.pixels.cache import PatchCache
from sightline.data.pixels.decoding import seen_frames, seen_image
from sightline.geometry import (
    Patching,
    PixelRecipes,
    Preprocessing,
    image_patches,
    video_patches,
)
from sightline.positions import GridThw


class LeanPixels:
    """Loads the pixels of samples as uint8 patches.

    Args:
        preprocessing: Patch sizes of the run.
        recipes: Filters of the run.
        cache: Where patches are kept between epochs; None keeps none.
    """

    takes_raw = True

    def __init__(
        self,
        preprocessing: Preprocessing,
        recipes: PixelRecipes,
        cache: PatchCache | None = None,
    ) -> None:
        self._preprocessing = preprocessing
        self._recipes = recipes
        self._cache = cache

    def __call__(self, sample: EncodedSample) -> dict[str, torch.Tensor]:
        """The pixels of a sample.

        Returns:
            ``pixel_values`` (num_patches, 3 * patch_size ** 2) uint8 and ``image_grid_thw``
            (num_images, 3) where there are images; ``pixel_values_videos`` (num_patches,
            3 * temporal_patch_size * patch_size ** 2) uint8, ``video_grid_thw`` and
            ``second_per_grid_ts`` (num_videos,) seconds where there are videos.

        Raises:
            MediaError: A file cannot be decoded, or changed since it was planned.
        """
        origin = sample.conversation.origin
        tensors: dict[str, torch.Tensor] = {}
        if sample.images:
            patches = [self._image(image, origin) for image in sample.images]
            tensors["pixel_values"] = _joined(patches)
            tensors["image_grid_thw"] = torch.tensor([image.grid_thw for image in sample.images])
        if sample.videos:
            patches = [self._video(video, origin) for video in sample.videos]
            tensors["pixel_values_videos"] = _joined(patches)
            tensors["video_grid_thw"] = torch.tensor([video.grid_thw for video in sample.videos])
            tensors["second_per_grid_ts"] = torch.tensor(
                [video.seconds_per_grid for video in sample.videos], dtype=torch.float32
            )
        return tensors

    def _image(self, image: PlannedImage, origin: Origin) -> np.ndarray:
        patching, recipe = self._preprocessing.image_patching, self._recipes.image

        def make(content: bytes | None) -> np.ndarray:
            return image_patches(seen_image(image, origin, recipe, content), patching)

        if self._cache is None:
            return make(None)
        told = (image.height, image.width, image.resized, patching, recipe)
        return self._cache.patches(image.part, _shape(image.grid_thw, 1, patching), told, make)

    def _video(self, video: PlannedVideo, origin: Origin) -> np.ndarray:
        patching, recipe = self._preprocessing.video_patching, self._recipes.video

        def make(content: bytes | None) -> np.ndarray:
            return video_patches(seen_frames(video, origin, recipe), patching)

        if self._cache is None:
            return make(None)
        told = (video.frame_indices, video.resized, patching, recipe)
        shape = _shape(video.grid_thw, patching.temporal_patch_size, patching)
        return self._cache.patches(video.part, shape, told, make)


def _shape(grid_thw: GridThw, num_frames: int, patching: Patching) -> tuple[int, int]:
    """Shape of raw patches: how many, and the numbers of one."""
    t, h, w = grid_thw
    return t * h * w, 3 * num_frames * patching.patch_size**2


def _joined(patches: list[np.ndarray]) -> torch.Tensor:
    whole = patches[0] if len(patches) == 1 else np.concatenate(patches)
    return torch.from_numpy(whole)
