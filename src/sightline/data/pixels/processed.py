"""Pixels of an encoded sample, through the checkpoint's own processors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from transformers.video_utils import VideoMetadata

from sightline.config import MAX_FILE_PIXELS
from sightline.data.conversation import Conversation
from sightline.data.encode import EncodedSample
from sightline.data.frames import frames_of
from sightline.data.images import load_image
from sightline.data.media import PlannedImage, PlannedVideo
from sightline.errors import MediaError


class PixelLoader(Protocol):
    """Loads the pixels of a sample."""

    @property
    def takes_raw(self) -> bool:
        """Whether they are grey levels, which the model has to be made to take."""
        ...

    def __call__(self, sample: EncodedSample) -> dict[str, torch.Tensor]:
        """Pixels and grids of a sample, by the names of the model's arguments."""
        ...


class ProcessorPixels:
    """Loads the pixels of samples through the checkpoint's own processors.

    Args:
        processor: The checkpoint's transformers processor.
    """

    takes_raw = False

    def __init__(self, processor: Any) -> None:
        self._processor = processor

    def __call__(self, sample: EncodedSample) -> dict[str, torch.Tensor]:
        """As `load_pixels`."""
        return load_pixels(sample, self._processor)


def load_pixels(sample: EncodedSample, processor: Any) -> dict[str, torch.Tensor]:
    """Decode the media of a sample and prepare them as the family's processor does.

    Args:
        sample: The encoded sample.
        processor: The checkpoint's transformers processor.

    Returns:
        ``pixel_values`` (num_patches, patch_dim) float32 and ``image_grid_thw`` (num_images, 3)
        where there are images; ``pixel_values_videos``, ``video_grid_thw`` and
        ``second_per_grid_ts`` (num_videos,) seconds where there are videos.

    Raises:
        MediaError: A file cannot be decoded, or gives another grid than its header promised.
    """
    tensors: dict[str, torch.Tensor] = {}
    if sample.images:
        origin = sample.conversation.origin
        pictures = [
            load_image(
                image.part.path,
                origin=origin,
                field=image.part.field,
                content=image.part.content,
                max_pixels=max(image.height * image.width, MAX_FILE_PIXELS),
            )
            for image in sample.images
        ]
        made = processor.image_processor(
            images=pictures,
            return_tensors="pt",
            **_own_size(processor.image_processor, sample.limits.image_max_pixels),
        )
        tensors["pixel_values"] = made["pixel_values"]
        tensors["image_grid_thw"] = made["image_grid_thw"]
        _refuse_changed(made["image_grid_thw"], sample.images, sample.conversation)
    if sample.videos:
        tensors |= _video_tensors(sample, processor)
    return tensors


def _video_tensors(sample: EncodedSample, processor: Any) -> dict[str, torch.Tensor]:
    origin = sample.conversation.origin
    clips = [frames_of(video, origin) for video in sample.videos]
    frames = [torch.from_numpy(clip).permute(0, 3, 1, 2) for clip in clips]
    made = processor.video_processor(
        videos=frames,
        video_metadata=[video_metadata(video) for video in sample.videos],
        do_sample_frames=False,
        return_tensors="pt",
        **_own_size(processor.video_processor, sample.limits.video_max_pixels),
    )
    _refuse_changed(made["video_grid_thw"], sample.videos, sample.conversation)
    seconds = [video.seconds_per_grid for video in sample.videos]
    return {
        "pixel_values_videos": made["pixel_values_videos"],
        "video_grid_thw": made["video_grid_thw"],
        "second_per_grid_ts": torch.tensor(seconds, dtype=torch.float32),
    }


def _own_size(part: Any, max_pixels: int | None) -> dict[str, Any]:
    """The size argument of a sample with a limit of its own; none for the others."""
    if max_pixels is None:
        return {}
    low, high = int(part.size["shortest_edge"]), int(part.size["longest_edge"])
    return {"size": {"shortest_edge": low, "longest_edge": max(min(high, max_pixels), low)}}


def video_metadata(video: PlannedVideo) -> VideoMetadata:
    """What transformers needs to know of frames that were taken already."""
    taken = video.taken
    # Where the rate varies a frame of transformers' is a tick of the clock: index / fps is true.
    return VideoMetadata(
        total_num_frames=taken.num_ticks,
        fps=taken.ticks_per_second,
        width=video.width,
        height=video.height,
        duration=taken.num_ticks / taken.ticks_per_second,
        video_backend="pyav",
        frames_indices=list(taken.ticks),
    )


def _refuse_changed(
    grids: torch.Tensor,
    planned: Sequence[PlannedImage] | Sequence[PlannedVideo],
    conversation: Conversation,
) -> None:
    for item, grid in zip(planned, grids.tolist(), strict=True):
        if tuple(grid) != item.grid_thw:
            raise conversation.origin.error(
                f"{item.part.path}: its pixels make a grid of {tuple(grid)} patches, its header "
                f"promised {item.grid_thw}.",
                field=item.part.field,
                fix="The file changed while it was read, or its header is wrong: replace it.",
                code="media.changed",
                kind=MediaError,
            )
