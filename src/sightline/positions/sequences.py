"""From token ids and grids to positions: what a model call needs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from sightline.errors import LayoutError
from sightline.families import RopeLayout
from sightline.positions.engine import build_position_ids
from sightline.positions.layout import GridThw, Layout, Span, text_span, vision_span


@dataclass(frozen=True, kw_only=True, slots=True)
class PositionRule:
    """What the engine must know of one checkpoint.

    Attributes:
        rope: The family's rule.
        image_token_id: Placeholder id of a merged image patch.
        video_token_id: Placeholder id of a merged video patch.
        spatial_merge_size: Patches per side that become one token.
        tokens_per_second: Positions a second of video takes; None where time is not scaled.
    """

    rope: RopeLayout
    image_token_id: int
    video_token_id: int
    spatial_merge_size: int
    tokens_per_second: float | None = None


class BatchPositions(NamedTuple):
    """Positions of a padded batch.

    Attributes:
        model_position_ids: (4, batch, seq) int64. Text row, then t, h, w. Padding is 0.
        rope_deltas: (batch, 1) int64. Maximum position plus one, minus the unpadded length.
    """

    model_position_ids: torch.Tensor
    rope_deltas: torch.Tensor


def place_batch(
    input_ids: torch.Tensor,
    rule: PositionRule,
    *,
    attention_mask: torch.Tensor | None = None,
    image_grid_thw: torch.Tensor | None = None,
    video_grid_thw: torch.Tensor | None = None,
    second_per_grid_ts: torch.Tensor | Sequence[float] | None = None,
) -> BatchPositions:
    """Positions of a batch, padded on either side.

    Args:
        input_ids: (batch, seq) int64.
        rule: The checkpoint's rule.
        attention_mask: (batch, seq), 1 for tokens and 0 for padding; None for no padding.
        image_grid_thw: (num_images, 3) int64, raw patches, in the order of the placeholders.
        video_grid_thw: (num_videos, 3) int64, raw patches, in the order of the placeholders.
        second_per_grid_ts: (num_videos,) seconds, for families that scale time.

    Raises:
        LayoutError: Placeholders and grids do not match, told per row.
    """
    images = iter(_grid_rows(image_grid_thw))
    videos = iter(_video_rows(video_grid_thw, second_per_grid_ts, rule))
    ids = input_ids.detach().cpu().numpy()
    mask = np.ones(ids.shape, bool)
    if attention_mask is not None:
        mask = attention_mask.detach().cpu().numpy().astype(bool)
    placed = np.zeros((4, *ids.shape), dtype=np.int64)
    deltas = np.zeros((ids.shape[0], 1), dtype=np.int64)
    for row, (row_ids, row_mask) in enumerate(zip(ids, mask, strict=True)):
        layout = _layout_of_row(row_ids[row_mask], images, videos, rule, f"row {row}: ")
        position_ids, deltas[row, 0] = build_position_ids(
            layout, rule.rope, tokens_per_second=rule.tokens_per_second
        )
        placed[0, row, row_mask] = np.arange(layout.num_tokens)
        placed[1:, row, row_mask] = position_ids
    _refuse_left_over(images, "image")
    _refuse_left_over(videos, "video")
    device = input_ids.device
    return BatchPositions(torch.from_numpy(placed).to(device), torch.from_numpy(deltas).to(device))


def layout_of_ids(
    input_ids: Sequence[int] | np.ndarray,
    rule: PositionRule,
    *,
    image_grid_thw: Sequence[GridThw] = (),
    video_grid_thw: Sequence[GridThw] = (),
    second_per_grid_ts: Sequence[float] | None = None,
    where: str = "",
) -> Layout:
    """The layout of one unpadded sample, every placeholder accounted for.

    Args:
        input_ids: (seq,) token ids.
        rule: The checkpoint's rule.
        image_grid_thw: One (t, h, w) per image, raw patches.
        video_grid_thw: One (t, h, w) per video, raw patches.
        second_per_grid_ts: One number of seconds per video.
        where: Put before messages: the file and line of the sample.

    Raises:
        LayoutError: Placeholders and grids do not match; both numbers are named.
    """
    images = iter(list(image_grid_thw))
    videos = iter(_video_rows(video_grid_thw, second_per_grid_ts, rule))
    layout = _layout_of_row(np.asarray(input_ids), images, videos, rule, where)
    _refuse_left_over(images, "image", where)
    _refuse_left_over(videos, "video", where)
    return layout


_VideoRow = tuple[GridThw, float | None]


def _grid_rows(grids: torch.Tensor | None) -> list[GridThw]:
    if grids is None:
        return []
    return [(int(t), int(h), int(w)) for t, h, w in grids.tolist()]


def _video_rows(
    grids: torch.Tensor | Sequence[GridThw] | None,
    seconds: torch.Tensor | Sequence[float] | None,
    rule: PositionRule,
) -> list[_VideoRow]:
    """Videos as spans: one per video, or one per temporal grid where the family wants that."""
    rows = _grid_rows(grids) if isinstance(grids, torch.Tensor) else list(grids or ())
    if rule.rope.temporal_rule == "frame_per_span":
        return [((1, h, w), None) for t, h, w in rows for _ in range(t)]
    if rule.rope.temporal_rule == "grid_index" or not rows:
        return [(grid, None) for grid in rows]
    if seconds is None:
        raise LayoutError(
            f"{len(rows)} videos but no second_per_grid_ts. Pass what the processor returned: "
            "without it every video would be placed as if a grid lasted one second."
        )
    values = seconds.tolist() if isinstance(seconds, torch.Tensor) else list(seconds)
    if len(values) != len(rows):
        raise LayoutError(f"{len(rows)} videos but {len(values)} values in second_per_grid_ts.")
    return [(grid, float(value)) for grid, value in zip(rows, values, strict=True)]


def _layout_of_row(
    ids: np.ndarray,
    images: Iterator[GridThw],
    videos: Iterator[_VideoRow],
    rule: PositionRule,
    where: str,
) -> Layout:
    kinds = np.where(ids == rule.image_token_id, 1, np.where(ids == rule.video_token_id, 2, 0))
    edges = np.flatnonzero(np.diff(kinds)) + 1
    bounds = np.concatenate(([0], edges, [len(ids)]))
    spans: list[Span] = []
    for start, stop in itertools.pairwise(bounds.tolist()):
        length = stop - start
        if length == 0:
            continue
        if kinds[start] == 0:
            spans.append(text_span(length))
        elif kinds[start] == 1:
            rows = ((grid, None) for grid in images)
            spans.extend(_vision_run("image", length, rows, rule, f"{where}token {start}: "))
        else:
            spans.extend(_vision_run("video", length, videos, rule, f"{where}token {start}: "))
    return Layout(spans=tuple(spans))


def _vision_run(
    kind: str, length: int, rows: Iterator[_VideoRow], rule: PositionRule, where: str
) -> Iterator[Span]:
    """Grids that fill a run of placeholders exactly; media may follow each other directly."""
    left = length
    while left > 0:
        row = next(rows, None)
        if row is None:
            raise LayoutError(
                f"{where}{left} {kind} placeholders have no grid: there are more placeholders "
                f"than {kind}_grid_thw accounts for."
            )
        span = vision_span(
            "image" if kind == "image" else "video",
            row[0],
            spatial_merge_size=rule.spatial_merge_size,
            seconds_per_grid=row[1],
        )
        if span.num_tokens > left:
            raise LayoutError(
                f"{where}{left} {kind} placeholders, but the grid {row[0]} stands for "
                f"{span.num_tokens} tokens. Placeholders were cut, or belong to another {kind}."
            )
        left -= span.num_tokens
        yield span


def _refuse_left_over(rows: Iterator[object], kind: str, where: str = "") -> None:
    left = sum(1 for _ in rows)
    if left:
        raise LayoutError(
            f"{where}{left} more {kind} grids than the placeholders of the sequence account for."
        )
