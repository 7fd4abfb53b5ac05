"""Pictures and frames of a sample at the size at which the model sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from sightline.data import PlannedImage, PlannedVideo
from sightline.data.conversation import Origin
from sightline.data.pixels import seen_frames, seen_image
from sightline.errors import MediaError
from sightline.families.record import TemporalRule
from sightline.geometry import (
    Patching,
    PixelRecipe,
    PixelRecipes,
    Preprocessing,
    resize_image,
    resize_video,
)
from sightline.model import Checkpoint
from sightline.records.preview import ShownFrame, ShownPicture, ShownVideo

MAX_PICTURE_SIDE_PIXELS, MAX_SIDE_OF_MANY_PIXELS = 900, 480
MAX_FRAME_SIDE_PIXELS = 360
MAX_FRAMES = 16
# A strip keeps this much of its short side.
_MIN_SHORT_SIDE_PIXELS = 56
# For a processor whose steps no recipe tells: the filter that its families use.
_USUAL = PixelRecipe(
    backend="pil", resample="bicubic", rescale_factor=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
)


def evenly(num_wanted: int, num_all: int) -> list[int]:
    """Numbers from 0 on, evenly over all, the first among them.

    >>> evenly(3, 10), evenly(8, 2)
    ([0, 3, 6], [0, 1])
    """
    count = min(num_wanted, num_all)
    return [place * num_all // count for place in range(count)]


def recipes_of(checkpoint: Checkpoint) -> PixelRecipes:
    """The recipes that pictures are shown by."""
    return checkpoint.recipes or PixelRecipes(image=_USUAL, video=_USUAL)


def show_picture(
    image: PlannedImage,
    origin: Origin,
    recipe: PixelRecipe,
    preprocessing: Preprocessing,
    *,
    is_one_of_many: bool = False,
) -> ShownPicture:
    """A picture as the model sees it; one that cannot be decoded says why.

    Args:
        image: The planned image.
        origin: The sample that names it.
        recipe: The run's recipe for images.
        preprocessing: The run's own limits, whatever the sample is shrunk to.
        is_one_of_many: Whether it is reduced further, so that the page stays small.
    """
    patching = preprocessing.image_patching
    side = MAX_SIDE_OF_MANY_PIXELS if is_one_of_many else MAX_PICTURE_SIDE_PIXELS
    pixels = fault = None
    try:
        pixels = _reduced(seen_image(image, origin, recipe), side)
    except MediaError as error:
        fault = error.what
    return ShownPicture(
        name=str(image.part.path),
        file_size=(image.height, image.width),
        full_size=resize_image(image.height, image.width, patching, preprocessing.image_budget),
        seen_size=image.resized,
        grid_thw=image.grid_thw,
        patch_size=patching.patch_size,
        merge=patching.spatial_merge_size,
        num_tokens=num_tokens_of(image.grid_thw, patching),
        pixels=pixels,
        fault=fault,
    )


def show_video(
    video: PlannedVideo,
    origin: Origin,
    recipe: PixelRecipe,
    preprocessing: Preprocessing,
    temporal_rule: TemporalRule,
) -> ShownVideo:
    """A video with some of the frames that are taken; one that cannot be decoded says why.

    Args:
        video: The planned video.
        origin: The sample that names it.
        recipe: The run's recipe for videos.
        preprocessing: The run's own limits, whatever the sample is shrunk to.
        temporal_rule: How the family's positions count time.
    """
    patching = preprocessing.video_patching
    frames: tuple[ShownFrame, ...] = ()
    fault = None
    try:
        frames = _frames(video, origin, recipe, patching.temporal_patch_size)
    except MediaError as error:
        fault = error.what
    return ShownVideo(
        name=str(video.part.path),
        file_size=(video.height, video.width),
        full_size=full_video_size(video, preprocessing),
        seen_size=video.resized,
        grid_thw=video.grid_thw,
        patch_size=patching.patch_size,
        merge=patching.spatial_merge_size,
        num_tokens=num_tokens_of(video.grid_thw, patching),
        duration_seconds=video.taken.num_ticks / video.taken.ticks_per_second,
        num_frames=len(video.frame_indices),
        seconds_per_grid=video.seconds_per_grid,
        grid_seconds=video.timestamps,
        temporal_rule=temporal_rule,
        frames=frames,
        fault=fault,
    )


def full_video_size(video: PlannedVideo, preprocessing: Preprocessing) -> tuple[int, int]:
    """(height, width) of a video at the run's own limits, pixels."""
    return resize_video(
        len(video.frame_indices),
        video.height,
        video.width,
        preprocessing.video_patching,
        preprocessing.video_budget,
        scope=preprocessing.video_budget_scope,
    )


def num_tokens_of(grid_thw: tuple[int, int, int], patching: Patching) -> int:
    """Placeholders of a picture or a video."""
    t, h, w = grid_thw
    return t * h * w // patching.spatial_merge_size**2


def _frames(
    video: PlannedVideo, origin: Origin, recipe: PixelRecipe, group: int
) -> tuple[ShownFrame, ...]:
    """Frames of some temporal grids, the last grid filled as the processors fill it."""
    taken = video.taken
    grids = evenly(max(1, MAX_FRAMES // group), video.grid_thw[0])
    places = [grid * group + place for grid in grids for place in range(group)]
    known = [min(place, len(taken.indices) - 1) for place in places]
    # Only these are decoded: a long video has hundreds.
    indices = tuple(taken.indices[place] for place in known)
    ticks = tuple(taken.ticks[place] for place in known)
    some = replace(video, taken=replace(taken, indices=indices, ticks=ticks))
    pixels = _each_reduced(seen_frames(some, origin, recipe))
    return tuple(
        ShownFrame(
            index=index,
            seconds=tick / taken.ticks_per_second,
            grid=place // group,
            is_repeat=place >= len(taken.indices),
            pixels=picture,
        )
        for place, index, tick, picture in zip(places, indices, ticks, pixels, strict=True)
    )


def _each_reduced(frames: np.ndarray) -> Sequence[np.ndarray]:
    return [_reduced(frame, MAX_FRAME_SIDE_PIXELS) for frame in frames]


def _reduced(picture: np.ndarray, side: int) -> np.ndarray:
    """(3, height, width) as (height, width, 3), its long side ``side``, but of a strip."""
    upright = np.ascontiguousarray(picture.transpose(1, 2, 0))
    height, width = upright.shape[:2]
    scale = max(side / max(height, width), _MIN_SHORT_SIDE_PIXELS / min(height, width))
    if scale >= 1:
        return upright
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(upright).resize(size, Image.Resampling.LANCZOS))
