"""Images and videos of a sample as arithmetic: sizes, grids and times, without a decoded pixel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from sightline.data.conversation import Conversation, ImagePart, VideoPart
from sightline.data.frame_files import probe_frame_files
from sightline.data.images import probe_image_size
from sightline.data.videos import probe_video
from sightline.errors import DataError, LayoutError, MediaError
from sightline.families import BoxSpace
from sightline.geometry import (
    BoxFrame,
    Preprocessing,
    TakenFrames,
    image_grid_thw,
    resize_image,
    resize_video,
    take_frames,
    take_given,
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

    def box_frame(self, space: BoxSpace) -> BoxFrame:
        """What a box about this picture refers to, written in a family's space."""
        return BoxFrame(
            space=space,
            file_height=self.height,
            file_width=self.width,
            resized_height=self.resized[0],
            resized_width=self.resized[1],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedVideo:
    """A video, the frames that will be taken, and the grid they will have.

    Attributes:
        part: Where the video stands.
        height: Height of a frame as shown (rotation applied), pixels.
        width: Width of a frame as shown, pixels.
        taken: Frames taken, and when they are shown.
        resized: (height, width) that the model sees, pixels.
        grid_thw: Raw patches, before merging.
        seconds_per_grid: Seconds between two temporal grids.
        timestamps: Seconds of every temporal grid.
        quarter_turns: Quarter turns, counter-clockwise, from a decoded frame to the one shown.
        is_plain: Whether the reader of transformers takes the same frames and times by itself.
    """

    part: VideoPart
    height: int
    width: int
    taken: TakenFrames
    resized: tuple[int, int]
    grid_thw: GridThw
    seconds_per_grid: float
    timestamps: tuple[float, ...]
    quarter_turns: int = 0
    is_plain: bool = True

    @property
    def frame_indices(self) -> tuple[int, ...]:
        """Frames taken, from 0, in order; one may come more than once."""
        return self.taken.indices


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
    try:
        if part.frames is not None:
            return _plan_list(part, part.frames, conversation, pre)
        return _plan_file(part, conversation, pre)
    except LayoutError as error:
        raise _unusable(part, conversation, error) from error


def _plan_file(part: VideoPart, conversation: Conversation, pre: Preprocessing) -> PlannedVideo:
    info = probe_video(
        part.path, origin=conversation.origin, field=part.field, content=part.content
    )
    taken = take_frames(info.num_frames, info.fps, pre.sampling, info.times)
    planned = _planned(part, (info.height, info.width), taken, pre)
    return replace(planned, quarter_turns=info.quarter_turns, is_plain=info.is_plain)


def _plan_list(
    part: VideoPart, frames: tuple[Path, ...], conversation: Conversation, pre: Preprocessing
) -> PlannedVideo:
    taken = take_given(
        len(frames),
        fps=part.frame_fps or pre.sampling.fps,
        times=part.frame_seconds,
        temporal_patch_size=pre.sampling.temporal_patch_size,
        max_frames=pre.sampling.max_frames,
    )
    size = probe_frame_files(
        frames, origin=conversation.origin, field=part.field, max_pixels=pre.max_file_pixels
    )
    return replace(_planned(part, size, taken, pre), is_plain=False)


def _planned(
    part: VideoPart, size: tuple[int, int], taken: TakenFrames, pre: Preprocessing
) -> PlannedVideo:
    num_frames, group = len(taken.indices), pre.video_patching.temporal_patch_size
    resized = resize_video(
        num_frames, *size, pre.video_patching, pre.video_budget, scope=pre.video_budget_scope
    )
    return PlannedVideo(
        part=part,
        height=size[0],
        width=size[1],
        taken=taken,
        resized=resized,
        grid_thw=video_grid_thw(num_frames, resized, pre.video_patching),
        seconds_per_grid=taken.seconds_per_grid(group),
        timestamps=tuple(taken.timestamps(group)),
    )


def _unusable(
    part: ImagePart | VideoPart, conversation: Conversation, error: LayoutError
) -> DataError:
    return conversation.origin.error(
        f"{part.path}: {error}", field=part.field, code="media.shape", kind=MediaError
    )
