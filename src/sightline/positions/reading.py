"""From token ids and grids to layouts: every placeholder gets its grid, or is refused."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from sightline.errors import LayoutError
from sightline.positions.layout import GridThw, Layout, Span, SpanKind, text_span, vision_span
from sightline.positions.rule import PositionRule

Grids = torch.Tensor | np.ndarray | Sequence[GridThw]
Seconds = torch.Tensor | np.ndarray | Sequence[float]
Medium = tuple[GridThw, float | None]
"""A grid with its seconds per grid."""

_TEXT, _IMAGE, _VIDEO = 0, 1, 2
_span = functools.lru_cache(maxsize=4096)(vision_span)


def image_media(grids: Grids | None) -> list[Medium]:
    """Images in the order of their placeholders."""
    return [(grid, None) for grid in _grid_rows(grids, "image")]


def video_media(grids: Grids | None, seconds: Seconds | None, rule: PositionRule) -> list[Medium]:
    """Videos in the order of their placeholders, each with its seconds where time is scaled.

    Raises:
        LayoutError: Seconds are missing, or there are more or fewer than videos.
    """
    rows = _grid_rows(grids, "video")
    if rows and not rule.rope.takes_videos:
        raise LayoutError(f"{len(rows)} videos, but this family takes images only.")
    if rule.rope.temporal_rule != "seconds" or not rows:
        return [(grid, None) for grid in rows]
    if seconds is None:
        raise LayoutError(
            f"{len(rows)} videos but no second_per_grid_ts. Pass what the processor returned: "
            "without it every video would be placed as if a grid lasted one second."
        )
    values = seconds.tolist() if isinstance(seconds, torch.Tensor | np.ndarray) else list(seconds)
    if len(values) != len(rows):
        raise LayoutError(f"{len(rows)} videos but {len(values)} values in second_per_grid_ts.")
    return [(grid, float(value)) for grid, value in zip(rows, values, strict=True)]


def placeholder_kinds(input_ids: np.ndarray, rule: PositionRule) -> np.ndarray:
    """What every token is: (..., seq) int8, 0 text, 1 image, 2 video.

    Args:
        input_ids: (..., seq) token ids.
        rule: The checkpoint's rule.
    """
    kinds = (input_ids == rule.image_token_id).astype(np.int8)
    if rule.video_token_id is not None:
        kinds[input_ids == rule.video_token_id] = _VIDEO
    if rule.video_start_token_id is not None:
        opened = np.cumsum(input_ids == rule.video_start_token_id, axis=-1)
        closed = np.cumsum(input_ids == rule.video_end_token_id, axis=-1)
        kinds[(kinds == _IMAGE) & (opened > closed)] = _VIDEO
    return kinds


class Reader:
    """Hands out the grids of a batch to its placeholders, sample by sample.

    Args:
        images: Images of all samples, in order.
        videos: Videos of all samples, in order.
        rule: The checkpoint's rule.
    """

    def __init__(
        self, images: Sequence[Medium], videos: Sequence[Medium], rule: PositionRule
    ) -> None:
        self._rule = rule
        self._images = _Queue("image", images)
        self._videos = _Queue("video", videos)
        self._whole_videos = rule.rope.temporal_rule != "frame_per_span"

    def read(self, input_ids: np.ndarray, where: str = "") -> Layout:
        """The layout of one unpadded sample.

        Args:
            input_ids: (seq,) token ids.
            where: Put before messages: the sample's file and line, or its row.

        Raises:
            LayoutError: Placeholders and grids do not match; both numbers are named.
        """
        kinds = placeholder_kinds(input_ids, self._rule)
        edges = np.flatnonzero(kinds[1:] != kinds[:-1]) + 1
        bounds = [0, *edges.tolist(), len(kinds)]
        spans: list[Span] = []
        for start, stop in itertools.pairwise(bounds):
            kind = kinds[start] if stop > start else _TEXT
            if kind == _TEXT:
                spans.append(text_span(stop - start))
            elif kind == _IMAGE:
                spans.extend(self._run(self._images, start, stop, where))
            else:
                spans.extend(self._run(self._videos, start, stop, where))
        return Layout(spans=tuple(spans))

    def refuse_left_over(self, where: str = "") -> None:
        """Refuse grids that no placeholder stands for.

        Raises:
            LayoutError: Names how many there are.
        """
        for queue in (self._images, self._videos):
            left = queue.num_left()
            if left:
                raise LayoutError(
                    f"{where}{left} more {queue.kind} grids than the placeholders of the "
                    "sequence account for."
                )

    def _run(self, queue: _Queue, start: int, stop: int, where: str) -> Iterator[Span]:
        """Grids that fill a run of placeholders exactly; media may follow each other directly."""
        left = stop - start
        while left > 0:
            medium = queue.next(whole=self._whole_videos)
            if medium is None:
                raise LayoutError(
                    f"{where}token {stop - left}: {left} {queue.kind} placeholders have no grid: "
                    f"there are more placeholders than {queue.kind}_grid_thw accounts for."
                )
            grid, seconds = medium
            span = _span(
                queue.kind,
                grid,
                spatial_merge_size=self._rule.spatial_merge_size,
                temporal_merge_size=self._rule.temporal_merge_size,
                seconds_per_grid=seconds,
            )
            if span.num_tokens > left:
                raise LayoutError(
                    f"{where}token {stop - left}: {left} {queue.kind} placeholders, but the grid "
                    f"{grid} stands for {span.num_tokens} tokens. Placeholders were cut, or "
                    f"belong to another {queue.kind}."
                )
            left -= span.num_tokens
            yield span


class _Queue:
    """Media of one kind, taken whole or a temporal grid at a time."""

    def __init__(self, kind: SpanKind, media: Sequence[Medium]) -> None:
        self.kind: SpanKind = kind
        self._media = media
        self._next = 0
        self._grids_taken = 0

    def next(self, *, whole: bool) -> Medium | None:
        if self._next == len(self._media):
            return None
        medium = self._media[self._next]
        (t, h, w), seconds = medium
        if whole or t == 1:
            self._next += 1
            return medium
        self._grids_taken += 1
        if self._grids_taken == t:
            self._next, self._grids_taken = self._next + 1, 0
        return (1, h, w), seconds

    def num_left(self) -> int:
        return len(self._media) - self._next


def _grid_rows(grids: Grids | None, kind: str) -> list[GridThw]:
    if grids is None:
        return []
    rows = grids.tolist() if isinstance(grids, torch.Tensor | np.ndarray) else list(grids)
    for row in rows:
        if len(row) != 3:
            raise LayoutError(f"{kind}_grid_thw holds {list(row)}: a grid is (t, h, w).")
    return [(int(t), int(h), int(w)) for t, h, w in rows]
