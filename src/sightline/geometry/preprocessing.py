"""Everything that decides a picture's or video's grid, in one record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sightline.config import MAX_FILE_PIXELS
from sightline.geometry.frames import FrameSampling
from sightline.geometry.resize import Patching, PixelBudget


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocessing:
    """The preprocessing of one run, read once from the processor and the configuration.

    Attributes:
        image_patching: Patch sizes for images.
        image_budget: Pixel limits of an image.
        video_patching: Patch sizes for videos.
        video_budget: Pixel limits of a video.
        video_budget_scope: Whether the video limits hold for one frame or the whole video.
        sampling: How frames are taken.
        timestamps_in_text: Whether every temporal grid of a video is announced by its time as
            text (Qwen3-VL).
        max_file_pixels: An image file whose header states more has no grid: it is refused.
    """

    image_patching: Patching
    image_budget: PixelBudget
    video_patching: Patching
    video_budget: PixelBudget
    video_budget_scope: Literal["per_frame", "whole_video"]
    sampling: FrameSampling
    timestamps_in_text: bool
    max_file_pixels: int = MAX_FILE_PIXELS
