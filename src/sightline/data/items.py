"""The conversations to train on: one row of a run's plan each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from sightline.data.encode import MediaLimits
from sightline.data.fit import Turns

ITEMS = pa.schema(
    [
        # Row of the index, over all files of the run in order.
        ("sample", pa.int64()),
        ("file", pa.int32()),
        ("piece", pa.int32()),
        ("start", pa.int32()),
        ("stop", pa.int32()),
        ("image_max_pixels", pa.int64()),
        ("video_max_pixels", pa.int64()),
        ("num_tokens", pa.int32()),
        ("num_vision_tokens", pa.int32()),
        # Of the vision tokens, those of videos.
        ("num_video_tokens", pa.int32()),
        ("num_supervised_tokens", pa.int32()),
        # Raw patches of all media, and pairs of them that are of one frame.
        ("num_patches", pa.int64()),
        ("num_patch_pairs", pa.int64()),
    ]
)


class Item(NamedTuple):
    """One conversation to train on; the fields are the columns of `ITEMS`.

    ``start`` and ``stop`` are None for a whole sample.
    """

    sample: int
    file: int
    piece: int | None
    start: int | None
    stop: int | None
    image_max_pixels: int | None
    video_max_pixels: int | None
    num_tokens: int
    num_vision_tokens: int
    num_video_tokens: int
    num_supervised_tokens: int
    num_patches: int
    num_patch_pairs: int

    @property
    def limits(self) -> MediaLimits:
        """Pixel limits of its media."""
        return MediaLimits(
            image_max_pixels=self.image_max_pixels, video_max_pixels=self.video_max_pixels
        )

    @property
    def turns(self) -> Turns | None:
        """Its turns; None for all of them."""
        if self.start is None or self.stop is None:
            return None
        return Turns(start=self.start, stop=self.stop)


class Patches(NamedTuple):
    """Raw patches of the media of a sample.

    Attributes:
        num_patches: All of them.
        num_pairs: Pairs of patches of one frame, each with itself too: who attends to whom.
    """

    num_patches: int
    num_pairs: int

    @classmethod
    def of(cls, grids_thw: Iterable[tuple[int, int, int]]) -> Patches:
        """Those of media with these grids, raw patches.

        Example:
            >>> Patches.of([(1, 2, 2), (2, 2, 4)])
            Patches(num_patches=20, num_pairs=144)
        """
        frames = [(t, h * w) for t, h, w in grids_thw]
        return cls(sum(t * size for t, size in frames), sum(t * size**2 for t, size in frames))


def patches_of(media: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Raw patches of many samples at once.

    Args:
        media: (n,) The column ``media`` of the index.

    Returns:
        num_patches: (n,) int64, and num_pairs: (n,) int64, as of `Patches`.
    """
    lists = media.combine_chunks()
    flat = lists.flatten()
    t, h, w = (flat.field(axis).to_numpy(zero_copy_only=False).astype(np.int64) for axis in "thw")
    num_media = lists.value_lengths().to_numpy(zero_copy_only=False)
    ends = np.cumsum(num_media)
    # Sums up to each medium; a sample has what lies between its first and its last.
    counts, pairs = (
        np.concatenate([[0], np.cumsum(values)]) for values in (t * h * w, t * (h * w) ** 2)
    )
    starts = ends - num_media
    return counts[ends] - counts[starts], pairs[ends] - pairs[starts]
