"""From token ids and grids to positions: what a model call needs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from sightline.errors import LayoutError
from sightline.positions.engine import place_layouts
from sightline.positions.layout import Layout
from sightline.positions.reading import Grids, Reader, Seconds, image_media, video_media
from sightline.positions.rule import PositionRule


class BatchPositions(NamedTuple):
    """Positions of a padded or packed batch.

    Attributes:
        model_position_ids: (4, batch, seq) int64. Text row, then t, h, w. Padding is 0.
        rope_deltas: (batch, 1) int64. Maximum position plus one, minus the unpadded length; of
            the last sample in a packed row.
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
    cu_seqlens: torch.Tensor | Sequence[int] | None = None,
) -> BatchPositions:
    """Positions of a batch, padded on either side, or of one packed row.

    Args:
        input_ids: (batch, seq) int64.
        rule: The checkpoint's rule.
        attention_mask: (batch, seq), 1 for tokens and 0 for padding; None for no padding.
        image_grid_thw: (num_images, 3) int64, raw patches, in the order of the placeholders.
        video_grid_thw: (num_videos, 3) int64, raw patches, in the order of the placeholders.
        second_per_grid_ts: (num_videos,) seconds, for families that scale time.
        cu_seqlens: (num_samples + 1,) where the samples of one packed row begin and end, from
            0 to seq; None for one sample a row.

    Raises:
        LayoutError: Placeholders and grids do not match, told per row.
    """
    ids = input_ids.detach().cpu().numpy()
    if ids.ndim != 2:
        raise LayoutError(f"input_ids of shape {ids.shape}: a batch is (batch, seq).")
    mask = None if attention_mask is None else attention_mask.detach().cpu().numpy().astype(bool)
    if mask is not None and mask.shape != ids.shape:
        raise LayoutError(
            f"input_ids of shape {ids.shape}, but attention_mask of shape {mask.shape}."
        )
    reader = Reader(
        image_media(image_grid_thw), video_media(video_grid_thw, second_per_grid_ts, rule), rule
    )
    kept: list[np.ndarray] = []
    if cu_seqlens is None:
        kept = [row if mask is None else row[mask[index]] for index, row in enumerate(ids)]
        rows = [[reader.read(row, f"row {index}: ")] for index, row in enumerate(kept)]
    else:
        rows = [_packed_row(ids, mask, cu_seqlens, reader)]
    reader.refuse_left_over()
    placed = place_layouts(
        rows, rule.rope, tokens_per_second=rule.tokens_per_second, width=ids.shape[1]
    )
    positions = placed.model_position_ids
    if mask is not None and cu_seqlens is None and not mask.all():
        positions = np.zeros_like(positions)
        for index, row in enumerate(kept):
            positions[:, index, mask[index]] = placed.model_position_ids[:, index, : len(row)]
    device = input_ids.device
    return BatchPositions(
        torch.from_numpy(positions).to(device), torch.from_numpy(placed.rope_deltas).to(device)
    )


def get_rope_index(
    input_ids: torch.Tensor,
    mm_token_type_ids: torch.Tensor | None = None,
    image_grid_thw: torch.Tensor | None = None,
    video_grid_thw: torch.Tensor | None = None,
    second_per_grid_ts: torch.Tensor | Sequence[float] | None = None,
    attention_mask: torch.Tensor | None = None,
    *,
    rule: PositionRule,
    **_unused: object,
) -> tuple[torch.Tensor, torch.Tensor]:
    """In the place of transformers' method of this name.

        rule = position_rule(model.config)
        model.model.get_rope_index = functools.partial(get_rope_index, rule=rule)

    Args:
        input_ids: (batch, seq) int64.
        mm_token_type_ids: Not needed, because the ids say it: taken for the signature's sake.
        image_grid_thw: (num_images, 3) int64, raw patches.
        video_grid_thw: (num_videos, 3) int64, raw patches.
        second_per_grid_ts: (num_videos,) seconds, for families that scale time.
        attention_mask: (batch, seq), 1 for tokens and 0 for padding.
        rule: The checkpoint's rule, from `position_rule`.
        _unused: transformers hands over every keyword of the call.

    Returns:
        ``position_ids`` (3, batch, seq) int64, padding 0, and ``rope_deltas`` (batch, 1) int64.

    Raises:
        LayoutError: Placeholders and grids do not match, told per row.
    """
    placed = place_batch(
        input_ids,
        rule,
        attention_mask=attention_mask,
        image_grid_thw=image_grid_thw,
        video_grid_thw=video_grid_thw,
        second_per_grid_ts=second_per_grid_ts,
    )
    return placed.model_position_ids[1:], placed.rope_deltas


def layout_of_ids(
    input_ids: Sequence[int] | np.ndarray,
    rule: PositionRule,
    *,
    image_grid_thw: Grids = (),
    video_grid_thw: Grids = (),
    second_per_grid_ts: Seconds | None = None,
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
    try:
        videos = video_media(video_grid_thw, second_per_grid_ts, rule)
        reader = Reader(image_media(image_grid_thw), videos, rule)
    except LayoutError as error:
        raise LayoutError(f"{where}{error}") from None
    layout = reader.read(np.asarray(input_ids), where)
    reader.refuse_left_over(where)
    return layout


def _packed_row(
    ids: np.ndarray,
    mask: np.ndarray | None,
    cu_seqlens: torch.Tensor | Sequence[int],
    reader: Reader,
) -> list[Layout]:
    bounds = [int(bound) for bound in cu_seqlens]
    if ids.shape[0] != 1 or (mask is not None and not mask.all()):
        raise LayoutError(
            f"cu_seqlens with a batch of {ids.shape[0]} rows or with padding: a packed batch is "
            "one row without padding."
        )
    rising = all(a < b for a, b in itertools.pairwise(bounds))
    if len(bounds) < 2 or not rising or bounds[0] != 0 or bounds[-1] != ids.shape[1]:
        raise LayoutError(f"cu_seqlens {bounds} do not rise from 0 to {ids.shape[1]} tokens.")
    pairs = itertools.pairwise(bounds)
    return [reader.read(ids[0, a:b], f"sample {n}: ") for n, (a, b) in enumerate(pairs)]
