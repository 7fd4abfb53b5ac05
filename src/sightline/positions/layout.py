"""The layout of a sequence: which tokens are text, which are patches, and of what grid.

    text text [ image 1 x 2 x 3 ] text [ video 4 x 2 x 2, 1.0 s a grid ] text

A layout is arithmetic. It follows from the text and from the headers of the media, before any
pixel is decoded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from sightline.errors import LayoutError

SpanKind = Literal["text", "image", "video"]
GridThw = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """A run of tokens of one kind.

    Attributes:
        kind: text, image or video.
        num_tokens: Length of the run.
        merged_grid_thw: (t, h, w) after merging, for images and videos; None for text.
        seconds_per_grid: Time between two temporal grids of a video, in seconds; None where the
            family does not scale time.
    """

    kind: SpanKind
    num_tokens: int
    merged_grid_thw: GridThw | None = None
    seconds_per_grid: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """The spans of one sample, in order.

    Attributes:
        spans: The spans.
        num_tokens: Length of the sample without padding.
        num_vision_tokens: Placeholder tokens of images and videos.
        vision_spans: Images and videos, each with the slice of its tokens.
    """

    spans: tuple[Span, ...]
    num_tokens: int = field(init=False, compare=False)
    num_vision_tokens: int = field(init=False, compare=False)
    vision_spans: tuple[tuple[slice, Span], ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        start, num_vision_tokens, vision = 0, 0, []
        for span in self.spans:
            stop = start + span.num_tokens
            if span.kind != "text":
                vision.append((slice(start, stop), span))
                num_vision_tokens += span.num_tokens
            start = stop
        object.__setattr__(self, "num_tokens", start)
        object.__setattr__(self, "num_vision_tokens", num_vision_tokens)
        object.__setattr__(self, "vision_spans", tuple(vision))


def text_span(num_tokens: int) -> Span:
    """A run of text.

    Raises:
        LayoutError: The number of tokens is negative.
    """
    if num_tokens < 0:
        raise LayoutError(f"a text of {num_tokens} tokens: the number must not be negative.")
    return Span(kind="text", num_tokens=num_tokens)


def vision_span(
    kind: SpanKind,
    grid_thw: Iterable[int],
    *,
    spatial_merge_size: int,
    temporal_merge_size: int = 1,
    seconds_per_grid: float | None = None,
) -> Span:
    """A run of placeholders for one image, one video, or one frame group of a video.

    Args:
        kind: image or video.
        grid_thw: (t, h, w) in raw patches, before merging.
        spatial_merge_size: Patches per side that become one token.
        temporal_merge_size: Temporal grids of a video that become one; a single grid stays.
        seconds_per_grid: Seconds between temporal grids, for families that scale time.

    Raises:
        LayoutError: The grid is not three positive numbers, does not divide by the merge, or
            the seconds are not a positive number.
    """
    grid = tuple(int(side) for side in grid_thw)
    if len(grid) != 3 or min(grid) < 1:
        raise LayoutError(f"{kind} grid {grid} is not (t, h, w) with three positive numbers.")
    t, h, w = grid
    if h % spatial_merge_size or w % spatial_merge_size:
        raise LayoutError(
            f"{kind} grid {grid}: height {h} and width {w} in patches must both divide by "
            f"spatial_merge_size {spatial_merge_size}."
        )
    if kind == "video" and t > 1:
        if t % temporal_merge_size:
            raise LayoutError(
                f"video grid {grid}: {t} temporal grids must divide by temporal_merge_size "
                f"{temporal_merge_size}."
            )
        t //= temporal_merge_size
    if seconds_per_grid is not None and not 0 < seconds_per_grid < math.inf:
        raise LayoutError(
            f"a {kind} with {seconds_per_grid} seconds per grid: it must be a positive number."
        )
    merged = (t, h // spatial_merge_size, w // spatial_merge_size)
    return Span(
        kind=kind,
        num_tokens=merged[0] * merged[1] * merged[2],
        merged_grid_thw=merged,
        seconds_per_grid=seconds_per_grid,
    )
