"""Pixels to patches to grids, frames to times, boxes between spaces."""

from sightline.geometry.boxes import Box, BoxFrame, from_file_pixels, to_file_pixels, turned_upright
from sightline.geometry.frames import (
    FrameSampling,
    FrameTimes,
    TakenFrames,
    grid_timestamps,
    sample_frames,
    seconds_per_grid,
    take_frames,
    take_given,
)
from sightline.geometry.patches import image_patches, joined_patches, video_patches
from sightline.geometry.preprocessing import Preprocessing
from sightline.geometry.recipe import PixelRecipe, PixelRecipes, Resample
from sightline.geometry.resize import (
    Patching,
    PixelBudget,
    image_grid_thw,
    resize_image,
    resize_video,
    video_grid_thw,
)

__all__ = [
    "Box",
    "BoxFrame",
    "FrameSampling",
    "FrameTimes",
    "Patching",
    "PixelBudget",
    "PixelRecipe",
    "PixelRecipes",
    "Preprocessing",
    "Resample",
    "TakenFrames",
    "from_file_pixels",
    "grid_timestamps",
    "image_grid_thw",
    "image_patches",
    "joined_patches",
    "resize_image",
    "resize_video",
    "sample_frames",
    "seconds_per_grid",
    "take_frames",
    "take_given",
    "to_file_pixels",
    "turned_upright",
    "video_grid_thw",
    "video_patches",
]
