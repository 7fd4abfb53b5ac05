"""Made-up sequences with every case of positions, written as a family writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sightline.model import ReferenceFamily
from sightline.positions import Image, Text, Video

Item = Text | Image | Video
_PLAIN_TOKEN = 5
_TIMESTAMP_TOKENS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A batch to compare.

    Attributes:
        name: For tables.
        rows: The samples of the batch. Text around images and videos includes the tokens that
            open and close them.
        padding: The side that shorter rows are padded on.
    """

    name: str
    rows: tuple[tuple[Item, ...], ...]
    padding: str = "left"

    @property
    def has_video(self) -> bool:
        """Whether any row has one."""
        return any(isinstance(item, Video) for row in self.rows for item in row)


_IMAGE, _WIDE = Image((1, 16, 24)), Image((1, 8, 32))
# A minute at two frames a second, as the family's own processor cuts it: longer than its sides.
_LONG = Video((60, 34, 60), second_per_grid=1.0)
_SHORT = Video((4, 16, 24), second_per_grid=1.0)
_FRACTION = Video((30, 8, 12), second_per_grid=0.72)

CASES: tuple[Case, ...] = (
    Case(name="text alone", rows=((Text(12),),)),
    Case(name="one image", rows=((Text(6), _IMAGE, Text(9)),)),
    Case(name="images side by side", rows=((Text(6), _IMAGE, _WIDE, _IMAGE, Text(9)),)),
    Case(name="images over turns", rows=((Text(6), _IMAGE, Text(30), _WIDE, Text(9)),)),
    Case(name="short video", rows=((Text(6), _SHORT, Text(9)),)),
    Case(name="long video", rows=((Text(16), _LONG, Text(9)),)),
    Case(name="fractional seconds", rows=((Text(6), _FRACTION, Text(9)),)),
    Case(name="image and video", rows=((Text(6), _IMAGE, Text(4), _SHORT, Text(9)),)),
    Case(
        name="padded left",
        rows=((Text(6), _IMAGE, Text(9)), (Text(7),), (Text(3), _WIDE, Text(2), _IMAGE)),
    ),
    Case(
        name="padded right",
        rows=((Text(6), _IMAGE, Text(9)), (Text(7),), (Text(3), _WIDE, Text(2), _IMAGE)),
        padding="right",
    ),
)


def write_case(case: Case, reference: ReferenceFamily) -> dict[str, Any]:
    """A case as a model call takes it.

    Args:
        case: The case.
        reference: The family that it is written for.

    Returns:
        ``input_ids`` and ``attention_mask`` (rows, seq) int64, and the grids and seconds of
        images and videos, None where there are none.
    """
    images = [item.grid_thw for row in case.rows for item in row if isinstance(item, Image)]
    videos = [item for row in case.rows for item in row if isinstance(item, Video)]
    rows = [[token for item in row for token in _tokens(item, reference)] for row in case.rows]
    length = max(len(row) for row in rows)
    ids = torch.full((len(rows), length), _PLAIN_TOKEN + 1)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        where = slice(length - len(row), length) if case.padding == "left" else slice(len(row))
        ids[index, where] = torch.tensor(row)
        mask[index, where] = 1
    scales_time = reference.rule.rope.temporal_rule == "seconds"
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "image_grid_thw": torch.tensor(images) if images else None,
        "video_grid_thw": torch.tensor([video.grid_thw for video in videos]) if videos else None,
        "second_per_grid_ts": torch.tensor([video.second_per_grid for video in videos])
        if videos and scales_time
        else None,
    }


def _tokens(item: Item, reference: ReferenceFamily) -> Sequence[int]:
    config, rule = reference.config, reference.rule
    if isinstance(item, Text):
        return [_PLAIN_TOKEN] * item.num_tokens
    t, h, w = item.grid_thw
    per_grid = h * w // rule.spatial_merge_size**2
    opening, closing = _brackets(config, "image")
    if isinstance(item, Image):
        return [opening, *[rule.image_token_id] * (t * per_grid), closing]
    placeholder = rule.image_token_id if rule.rope.frames_are_images else rule.video_token_id
    assert placeholder is not None
    if rule.rope.temporal_rule != "frame_per_span":
        opening, closing = _brackets(config, "video")
        return [opening, *[placeholder] * (t // rule.temporal_merge_size * per_grid), closing]
    frame = [_PLAIN_TOKEN] * _TIMESTAMP_TOKENS + [opening, *[placeholder] * per_grid, closing]
    outer = _brackets(config, "video")
    return [outer[0], *frame * t, outer[1]]


def _brackets(config: Any, kind: str) -> tuple[int, int]:
    """The tokens that open and close an image or a video."""
    if hasattr(config, f"{kind}_start_token_id"):
        return getattr(config, f"{kind}_start_token_id"), getattr(config, f"{kind}_end_token_id")
    return getattr(config, "vision_start_token_id", 1), getattr(config, "vision_end_token_id", 2)
