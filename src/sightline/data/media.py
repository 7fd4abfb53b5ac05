"""Images and videos of a sample as arithmetic: sizes, grids and times, without a decoded pixel."""

from __future__ import annotations

from dataclasses import dataclass

from sightline.data.conversation import Conversation, ImagePart, VideoPart
from sightline.data.images import probe_image_size
from sightline.data.videos import VideoInfo, probe_video
from sightline.errors import DataError, LayoutError, MediaError
from sightline.geometry import (
    Preprocessing,
    grid_timestamps,
    image_grid_thw,
    resize_image,
    resize_video,
    sample_frames,
    seconds_per_grid,
    video_grid_thw,
)
from sightline.positions import GridThw


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedImage:
    """An image and the grid it will have.

    Attributes:
        part: Where the image stands.
        height: Height as shown (EXIF applied), pixels.
        width: Width as shown, pixels.
        resized: (height, width) that the model sees, pixels.
        grid_thw: Raw patches, before merging.
    """

    part: ImagePart
    height: int
    width: int
    resized: tuple[int, int]
    grid_thw: GridThw


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedVideo:
    """A video, the frames that will be taken, and the grid they will have.

    Attributes:
        part: Where the video stands.
        height: Height of a frame, pixels.
        width: Width of a frame, pixels.
        fps: Frames per second of the file.
        total_frames: Frames in the file.
        frame_indices: Frames taken.
        resized: (height, width) that the model sees, pixels.
        grid_thw: Raw patches, before merging.
        seconds_per_grid: Seconds between two temporal grids.
        timestamps: Seconds of every temporal grid.
    """

    part: VideoPart
    height: int
    width: int
    fps: float
    total_frames: int
    frame_indices: tuple[int, ...]
    resized: tuple[int, int]
    grid_thw: GridThw
    seconds_per_grid: float
    timestamps: tuple[float, ...]


def plan_media(
    conversation: Conversation, preprocessing: Preprocessing
) -> tuple[tuple[PlannedImage, ...], tuple[PlannedVideo, ...]]:
    """Grids of all media of a conversation, from their headers alone.

    Args:
        conversation: The parsed sample.
        preprocessing: Pixel budgets, patch sizes and frame sampling of the run.

    Raises:
        MediaError: A file is missing, broken or of an impossible shape; names file and line of
            the sample and the field.
    """
    images = tuple(_plan_image(part, conversation, preprocessing) for part in conversation.images())
    videos = tuple(_plan_video(part, conversation, preprocessing) for part in conversation.videos())
    return images, videos


def _plan_image(part: ImagePart, conversation: Conversation, pre: Preprocessing) -> PlannedImage:
    origin = conversation.origin
    height, width = probe_image_size(
        part.path,
        origin=origin,
        field=part.field,
        content=part.content,
        max_pixels=pre.max_file_pixels,
    )
    try:
        resized = resize_image(height, width, pre.image_patching, pre.image_budget)
    except LayoutError as error:
        raise _unusable(part, conversation, error) from error
    return PlannedImage(
        part=part,
        height=height,
        width=width,
        resized=resized,
        grid_thw=image_grid_thw(resized, pre.image_patching),
    )


def _plan_video(part: VideoPart, conversation: Conversation, pre: Preprocessing) -> PlannedVideo:
    info = probe_video(
        part.path, origin=conversation.origin, field=part.field, content=part.content
    )
    try:
        return _planned_video(part, info, pre)
    except LayoutError as error:
        raise _unusable(part, conversation, error) from error


def _planned_video(part: VideoPart, info: VideoInfo, pre: Preprocessing) -> PlannedVideo:
    indices = sample_frames(info.num_frames, info.fps, pre.sampling)
    resized = resize_video(
        len(indices),
        info.height,
        info.width,
        pre.video_patching,
        pre.video_budget,
        scope=pre.video_budget_scope,
    )
    group = pre.video_patching.temporal_patch_size
    return PlannedVideo(
        part=part,
        height=info.height,
        width=info.width,
        fps=info.fps,
        total_frames=info.num_frames,
        frame_indices=tuple(indices),
        resized=resized,
        grid_thw=video_grid_thw(len(indices), resized, pre.video_patching),
        seconds_per_grid=seconds_per_grid(len(indices), info.num_frames, info.fps, group),
        timestamps=tuple(grid_timestamps(indices, info.fps, group)),
    )


def _unusable(
    part: ImagePart | VideoPart, conversation: Conversation, error: LayoutError
) -> DataError:
    return conversation.origin.error(
        f"{part.path}: {error}", field=part.field, code="media.shape", kind=MediaError
    )
