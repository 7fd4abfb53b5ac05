"""The layout of a sequence: which tokens are text, which are patches, and of what grid.

    text text [ image 1 x 2 x 3 ] text [ video 4 x 2 x 2, 1.0 s a grid ] text

A layout is arithmetic. It follows from the text and from the headers of the media, before any
pixel is decoded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
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
    """The spans of one sample, in order."""

    spans: tuple[Span, ...]

    @property
    def num_tokens(self) -> int:
        """Length of the sample without padding."""
        return sum(span.num_tokens for span in self.spans)

    @property
    def num_vision_tokens(self) -> int:
        """Placeholder tokens of images and videos."""
        return sum(span.num_tokens for span in self.spans if span.kind != "text")


def text_span(num_tokens: int) -> Span:
    """A run of text."""
    return Span(kind="text", num_tokens=num_tokens)


def vision_span(
    kind: SpanKind,
    grid_thw: Iterable[int],
    *,
    spatial_merge_size: int,
    seconds_per_grid: float | None = None,
) -> Span:
    """A run of placeholders for one image, one video, or one frame group of a video.

    Args:
        kind: image or video.
        grid_thw: (t, h, w) in raw patches, before merging.
        spatial_merge_size: Patches per side that become one token.
        seconds_per_grid: Seconds between temporal grids, for families that scale time.

    Raises:
        LayoutError: The grid is not three positive numbers, or does not divide by the merge.
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
    merged = (t, h // spatial_merge_size, w // spatial_merge_size)
    return Span(
        kind=kind,
        num_tokens=merged[0] * merged[1] * merged[2],
        merged_grid_thw=merged,
        seconds_per_grid=seconds_per_grid,
    )
