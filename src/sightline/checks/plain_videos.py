"""Videos of a compared sample as someone without Sightline hands them to transformers.

An ordinary file goes the plain way: ``load_video`` takes its frames by the processor's own rule,
and its times are index / rate. That way gives other frames or times where the rate varies, fails
where a container does not state its number of frames, leaves a turned video on its side, and has no
times at all for a list of pictures. For those alone training wrote down which frames it took and
when they are shown; they are decoded here in order, by PyAV alone, and handed over with those
times. So what is compared of such a video is its pixels, tokens and positions, and not the choice
of its frames.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from transformers.image_utils import load_image
from transformers.video_utils import VideoMetadata, load_video

from sightline.data.images import load_image as load_image_as_trained

# What Qwen's own code takes where a checkpoint names no rate.
_FPS_OF_QWEN = 2.0


def read_video(
    part: dict[str, Any], video_processor: Any, misread: Collection[str]
) -> tuple[np.ndarray, VideoMetadata]:
    """A video part of a message as frames with what transformers must know of them.

    Args:
        part: The part. ``taken`` and ``video_metadata`` where training wrote them down.
        video_processor: Picks the frames of an ordinary file.
        misread: Paths of pictures that transformers reads otherwise than training did.

    Returns:
        frames: (num_frames, height, width, 3) uint8.
        metadata: Their times.
    """
    if "video_metadata" not in part:
        return _plain(part["video"], video_processor)
    metadata = VideoMetadata(**part["video_metadata"])
    if isinstance(part["video"], list):
        pictures = [
            load_image_as_trained(Path(path), max_pixels=None)
            if path in misread
            else load_image(path)
            for path in part["video"]
        ]
        return np.stack([np.asarray(picture) for picture in pictures]), metadata
    taken = part["taken"]
    frames = _decoded(part["video"], taken["indices"])
    upright = np.rot90(frames, k=taken["quarter_turns"], axes=(1, 2))
    return np.ascontiguousarray(upright), metadata


def _plain(path: str, video_processor: Any) -> tuple[np.ndarray, VideoMetadata]:
    number = video_processor.num_frames
    fps = None if number else video_processor.fps or _FPS_OF_QWEN
    sample = partial(video_processor.sample_frames, num_frames=number, fps=fps)
    load: Any = load_video
    frames, metadata = load(path, backend="pyav", sample_indices_fn=sample)
    # The loader gives a frame once; where more are asked for than there are, the rule repeats some.
    _, places = np.unique(np.asarray(metadata.frames_indices), return_inverse=True)
    return frames[places], metadata


def _decoded(path: str, indices: list[int]) -> np.ndarray:
    wanted, found = set(indices), {}
    with av.open(path) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index in wanted:
                found[index] = frame.to_ndarray(format="rgb24")
            if index == indices[-1]:
                break
    return np.stack([found[index] for index in indices])
