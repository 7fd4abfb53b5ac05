"""Pixels to patches to grids, frames to times, boxes between spaces."""

from sightline.geometry.boxes import Box, BoxFrame, from_file_pixels, to_file_pixels
from sightline.geometry.frames import (
    FrameSampling,
    grid_timestamps,
    sample_frames,
    seconds_per_grid,
)
from sightline.geometry.preprocessing import Preprocessing
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
    "Patching",
    "PixelBudget",
    "Preprocessing",
    "from_file_pixels",
    "grid_timestamps",
    "image_grid_thw",
    "resize_image",
    "resize_video",
    "sample_frames",
    "seconds_per_grid",
    "to_file_pixels",
    "video_grid_thw",
]
