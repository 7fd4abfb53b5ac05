"""A picture and a video of nothing, for ranks whose own samples have none.

Ranks that share the work of a step must call the same towers equally often: a rank of text alone
would leave the others waiting for its part of the vision tower's weights or gradients. A blank
goes through all of the model as one more sample that has no labels, so its gradients are exact
zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from sightline.errors import LayoutError
from sightline.geometry import Patching, Preprocessing
from sightline.positions import Layout, PositionRule, layout_of_ids


@dataclass(frozen=True, kw_only=True, slots=True)
class Blank:
    """A sample of nothing.

    Attributes:
        input_ids: (seq,) int64.
        layout: Its layout.
        pixels: Its pixels, black, by the names of the model's arguments.
        num_images: 1 where it is a picture.
        num_videos: 1 where it is a video.
    """

    input_ids: np.ndarray
    layout: Layout
    pixels: Mapping[str, torch.Tensor] = field(default_factory=dict)
    num_images: int = 0
    num_videos: int = 0


class Blanks:
    """Makes blanks for a checkpoint.

    Args:
        rule: The checkpoint's position rule.
        preprocessing: Patch sizes of the run.
        takes_raw: Whether pixels are grey levels; see `PixelLoader`.
        filler: Id of a token that is text, to stand around the placeholder.
    """

    def __init__(
        self, rule: PositionRule, preprocessing: Preprocessing, *, takes_raw: bool, filler: int
    ) -> None:
        self._rule = rule
        self._preprocessing = preprocessing
        self._takes_raw = takes_raw
        self._filler = filler

    def text(self) -> Blank:
        """Two tokens of text."""
        ids = np.full(2, self._filler, dtype=np.int64)
        return Blank(input_ids=ids, layout=layout_of_ids(ids, self._rule))

    def image(self) -> Blank:
        """The smallest picture there is: one merged patch."""
        patching = self._preprocessing.image_patching
        num_frames = 1 if self._takes_raw else patching.temporal_patch_size
        pixels, grid = self._patches(patching, num_frames)
        ids = self._around(self._rule.image_token_id)
        layout = layout_of_ids(ids, self._rule, image_grid_thw=grid)
        given = {"pixel_values": pixels, "image_grid_thw": grid}
        return Blank(input_ids=ids, layout=layout, pixels=given, num_images=1)

    def video(self) -> Blank:
        """The smallest video there is: one merged patch of one group of frames.

        Raises:
            LayoutError: The family has no videos.
        """
        if self._rule.video_token_id is None:
            raise LayoutError("this family takes images only: there is no blank video.")
        patching = self._preprocessing.video_patching
        pixels, grid = self._patches(patching, patching.temporal_patch_size)
        ids, seconds = self._around(self._rule.video_token_id), torch.ones(1)
        layout = layout_of_ids(ids, self._rule, video_grid_thw=grid, second_per_grid_ts=seconds)
        given = {
            "pixel_values_videos": pixels,
            "video_grid_thw": grid,
            "second_per_grid_ts": seconds,
        }
        return Blank(input_ids=ids, layout=layout, pixels=given, num_videos=1)

    def _around(self, placeholder: int) -> np.ndarray:
        return np.array([self._filler, placeholder, self._filler], dtype=np.int64)

    def _patches(self, patching: Patching, num_frames: int) -> tuple[torch.Tensor, torch.Tensor]:
        merge = patching.spatial_merge_size
        dtype = torch.uint8 if self._takes_raw else torch.float32
        pixels = torch.zeros(merge * merge, 3 * num_frames * patching.patch_size**2, dtype=dtype)
        return pixels, torch.tensor([[1, merge, merge]])
