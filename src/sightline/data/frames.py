"""The frames of a planned video, from its file or from the pictures that a row lists."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sightline.data.conversation import Origin
from sightline.data.frame_files import each_frame_file
from sightline.data.media import PlannedVideo
from sightline.data.videos import each_frame


def each_frame_of(video: PlannedVideo, origin: Origin) -> Iterator[np.ndarray]:
    """The frames of a video one after the other, so that no more than one need be held.

    Args:
        video: The planned video.
        origin: The sample that names it, for the message.

    Yields:
        pixels: (height, width, 3) uint8. RGB, upright; one for each of ``video.frame_indices``.

    Raises:
        MediaError: A file is missing or broken, a frame is not there, or has another size.
    """
    part = video.part
    if part.frames is not None:
        size = video.height, video.width
        yield from each_frame_file(
            part.frames, size, origin=origin, field=part.field, max_pixels=None
        )
        return
    once = list(dict.fromkeys(video.frame_indices))
    each = each_frame(part.path, once, origin=origin, field=part.field, content=part.content)
    for index, pixels in zip(once, each, strict=True):
        # Where more frames are asked for than there are, one is seen several times.
        for _ in range(video.frame_indices.count(index)):
            yield pixels


def frames_of(video: PlannedVideo, origin: Origin) -> np.ndarray:
    """The frames of a video at once.

    Args:
        video: The planned video.
        origin: The sample that names it, for the message.

    Returns:
        frames: (num_frames, height, width, 3) uint8. RGB, upright.

    Raises:
        MediaError: As `each_frame_of`.
    """
    frames = np.empty((len(video.frame_indices), video.height, video.width, 3), dtype=np.uint8)
    for place, pixels in enumerate(each_frame_of(video, origin)):
        frames[place] = pixels
    return frames
