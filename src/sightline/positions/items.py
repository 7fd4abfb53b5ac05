"""Positions from a description of a sample: no model, no tokenizer, no configuration file.

mrope_positions([Text(8), Image((1, 4, 6)), Text(2)], family="qwen2_5_vl")
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sightline.errors import LayoutError
from sightline.families import FAMILIES, Family
from sightline.positions.engine import Positions, build_position_ids
from sightline.positions.layout import GridThw, Layout, Span, text_span, vision_span


@dataclass(frozen=True, slots=True)
class Text:
    """A run of text.

    Attributes:
        num_tokens: Its length. Tokens that open and close a vision span are text.
    """

    num_tokens: int


@dataclass(frozen=True, slots=True)
class Image:
    """The placeholders of one image.

    Attributes:
        grid_thw: (t, h, w) in raw patches, before merging, as in ``image_grid_thw``.
    """

    grid_thw: GridThw


@dataclass(frozen=True, slots=True)
class Video:
    """The placeholders of one video, or of one of its frame groups.

    Attributes:
        grid_thw: (t, h, w) in raw patches, before merging, as in ``video_grid_thw``.
        second_per_grid: Seconds between two temporal grids, for families that scale time.
        timestamp_tokens: For families that write the time before every temporal grid
            (Qwen3-VL): how many tokens of text stand before each, one number for all or one a
            grid. The tokens that open and close a vision span count as text.
    """

    grid_thw: GridThw
    second_per_grid: float | None = None
    timestamp_tokens: int | Sequence[int] = 0


Item = Text | Image | Video


def mrope_positions(
    items: Iterable[Item],
    *,
    family: str,
    spatial_merge_size: int | None = None,
    tokens_per_second: float | None = None,
) -> Positions:
    """M-RoPE positions of one sample.

    Args:
        items: The sample in order.
        family: A key of `sightline.families.FAMILIES`, which is the ``model_type`` of a
            checkpoint: ``qwen2_vl``, ``qwen2_5_vl``, ``qwen3_vl``, ``glm4v``, ...
        spatial_merge_size: Patches per side that become one token; None for the family's own.
        tokens_per_second: Positions a second of video takes; None for the family's own.

    Returns:
        ``position_ids``, (3, seq) int64: temporal, height and width; and ``rope_delta``, an
        int: maximum plus one, minus the length.

    Raises:
        LayoutError: The family is not known, a grid does not fit it, or a video lacks its
            seconds.

    >>> image = Image((1, 4, 6))
    >>> p = mrope_positions([Text(2), image, Text(1)], family="qwen2_5_vl")
    >>> p.position_ids[0].tolist()
    [0, 1, 2, 2, 2, 2, 2, 2, 5]
    >>> p.position_ids[1].tolist()
    [0, 1, 2, 2, 2, 3, 3, 3, 5]
    >>> p.position_ids[2].tolist()
    [0, 1, 2, 3, 4, 2, 3, 4, 5]
    >>> p.rope_delta
    -3

    A grid of the video stands for 0.5 seconds, and a second for two positions:

    >>> video = Video((3, 2, 2), second_per_grid=0.5)
    >>> mrope_positions([Text(1), video, Text(2)], family="qwen2_5_vl").position_ids[0].tolist()
    [0, 1, 2, 3, 4, 5]

    Qwen3-VL writes the time before every grid, here with two tokens each:

    >>> video = Video((2, 2, 2), timestamp_tokens=2)
    >>> mrope_positions([Text(1), video], family="qwen3_vl").position_ids[0].tolist()
    [0, 1, 2, 3, 4, 5, 6]
    """
    rope = _family(family).rope
    layout = items_layout(items, family=family, spatial_merge_size=spatial_merge_size)
    seconds = rope.tokens_per_second if tokens_per_second is None else tokens_per_second
    return build_position_ids(layout, rope, tokens_per_second=seconds)


def items_layout(
    items: Iterable[Item], *, family: str, spatial_merge_size: int | None = None
) -> Layout:
    """The layout of a sample that is described by items.

    Args:
        items: The sample in order.
        family: A key of `sightline.families.FAMILIES`.
        spatial_merge_size: Patches per side that become one token; None for the family's own.

    Raises:
        LayoutError: The family is not known, or a grid does not fit it.
    """
    record = _family(family)
    merge = record.rope.spatial_merge_size if spatial_merge_size is None else spatial_merge_size
    return Layout(spans=tuple(span for item in items for span in _spans(item, record, merge)))


def _family(key: str) -> Family:
    if key in FAMILIES:
        return FAMILIES[key]
    near = difflib.get_close_matches(key, FAMILIES, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise LayoutError(f"family {key!r} is not known: {', '.join(FAMILIES)}.{hint}")


def _spans(item: Item, family: Family, merge: int) -> Iterator[Span]:
    rope = family.rope
    if isinstance(item, Text):
        yield text_span(item.num_tokens)
    elif isinstance(item, Image):
        yield vision_span("image", item.grid_thw, spatial_merge_size=merge)
    elif not rope.takes_videos:
        raise LayoutError(f"{family.title} takes no videos.")
    elif rope.temporal_rule == "frame_per_span":
        t, h, w = item.grid_thw
        for num_tokens in _timestamps(item, t):
            yield text_span(num_tokens)
            yield vision_span("video", (1, h, w), spatial_merge_size=merge)
    elif item.timestamp_tokens:
        raise LayoutError(f"{family.title} writes no timestamps before the grids of a video.")
    else:
        yield vision_span(
            "video",
            item.grid_thw,
            spatial_merge_size=merge,
            temporal_merge_size=rope.temporal_merge_size,
            seconds_per_grid=item.second_per_grid,
        )


def _timestamps(video: Video, num_grids: int) -> Sequence[int]:
    if isinstance(video.timestamp_tokens, int):
        return [video.timestamp_tokens] * num_grids
    if len(video.timestamp_tokens) != num_grids:
        raise LayoutError(
            f"a video of {num_grids} temporal grids with {len(video.timestamp_tokens)} timestamps."
        )
    return video.timestamp_tokens
