"""The guard: a batch whose positions are not the engine's never reaches a model.

What goes wrong without it is silent. 1-D positions, positions of two dimensions, a packed row
without its text row, or a grid that belongs to another sample all run, train to loss zero, and
answer wrongly elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch

from sightline.errors import LayoutError
from sightline.positions.engine import build_position_ids
from sightline.positions.layout import Layout
from sightline.positions.reading import Reader, image_media, video_media
from sightline.positions.rule import PositionRule


def refuse_misplaced(
    input_ids: torch.Tensor,
    position_ids: torch.Tensor | None,
    rule: PositionRule,
    *,
    attention_mask: torch.Tensor | None = None,
    image_grid_thw: torch.Tensor | None = None,
    video_grid_thw: torch.Tensor | None = None,
    second_per_grid_ts: torch.Tensor | Sequence[float] | None = None,
    samples: Sequence[str] | None = None,
    num_images: Sequence[int] | None = None,
    num_videos: Sequence[int] | None = None,
) -> None:
    """Refuse a batch that would run with other positions than the engine's.

    Args:
        input_ids: (batch, seq) int64.
        position_ids: What the model would be given: (3, batch, seq), or (4, batch, seq) with
            the text row first. In a packed row the text row starts again with every sample.
        rule: The checkpoint's rule.
        attention_mask: (batch, seq), 1 for tokens and 0 for padding; None for no padding.
        image_grid_thw: (num_images, 3) int64, raw patches.
        video_grid_thw: (num_videos, 3) int64, raw patches.
        second_per_grid_ts: (num_videos,) seconds, for families that scale time.
        samples: A name for every sample in order, such as ``data.jsonl:7``; None for its row.
        num_images: Images of every sample, to hold each against its own placeholders.
        num_videos: Videos of every sample.

    Raises:
        LayoutError: Names the sample, what disagrees, and both numbers.
    """
    shape = tuple(input_ids.shape)
    refuse_flat(position_ids, shape)
    assert position_ids is not None
    ids, positions = _numpy(input_ids), _numpy(position_ids)
    mask = np.ones(shape, bool) if attention_mask is None else _numpy(attention_mask).astype(bool)
    images = image_media(image_grid_thw)
    videos = video_media(video_grid_thw, second_per_grid_ts, rule)
    reader = Reader(images, videos, rule)
    own = None if num_images is None or num_videos is None else (num_images, num_videos)
    sample = 0
    for row in range(shape[0]):
        row_ids, placed = ids[row, mask[row]], positions[:, row, mask[row]]
        for start, stop in _samples_of_row(placed):
            name = samples[sample] if samples is not None else f"row {row}"
            if own is not None:
                first = sum(own[0][:sample]), sum(own[1][:sample])
                reader = Reader(
                    images[first[0] : first[0] + own[0][sample]],
                    videos[first[1] : first[1] + own[1][sample]],
                    rule,
                )
            layout = reader.read(row_ids[start:stop], f"{name}: ")
            if own is not None:
                reader.refuse_left_over(f"{name}: ")
            _refuse_unlike(layout, placed[:, start:stop], rule, name)
            sample += 1
    if own is None:
        reader.refuse_left_over()


def refuse_flat(position_ids: torch.Tensor | None, shape: tuple[int, ...] | None = None) -> None:
    """Refuse positions that a model would take for 1-D ones. Needs no token ids.

    Args:
        position_ids: What the model would be given.
        shape: (batch, seq) of the token ids, where they are known.

    Raises:
        LayoutError: Missing, or not (3, batch, seq) or (4, batch, seq).
    """
    if position_ids is None:
        raise LayoutError(
            "a batch without position_ids: the model would guess them, and run images as 1-D "
            "text where mm_token_type_ids are missing too. Take them from place_batch."
        )
    found = tuple(position_ids.shape)
    if len(found) != 3 or found[0] not in (3, 4) or (shape is not None and found[1:] != shape):
        wanted = "(3, batch, seq)" if shape is None else str((3, *shape))
        raise LayoutError(
            f"position_ids of shape {found}: these models take {wanted}, or 4 rows with the text "
            "row first. Anything else runs as 1-D positions."
        )


def _samples_of_row(placed: np.ndarray) -> list[tuple[int, int]]:
    """Where the samples of a row begin and end: at every 0 of the text row."""
    length = placed.shape[1]
    if placed.shape[0] == 3 or length == 0:
        return [(0, length)] if length else []
    starts = np.flatnonzero(placed[0] == 0).tolist()
    if not starts or starts[0] != 0:
        starts = [0, *starts]
    return list(pairwise([*starts, length]))


def _refuse_unlike(layout: Layout, placed: np.ndarray, rule: PositionRule, name: str) -> None:
    expected = build_position_ids(
        layout, rule.rope, tokens_per_second=rule.tokens_per_second
    ).position_ids
    axes = placed[-3:]
    if placed.shape[0] == 4 and not np.array_equal(placed[0], np.arange(layout.num_tokens)):
        raise LayoutError(
            f"{name}: the text row does not count the sample's tokens from 0. Attention takes "
            "it to tell samples apart."
        )
    if np.array_equal(axes, expected):
        return
    token = int(np.flatnonzero((axes != expected).any(axis=0))[0])
    found, wanted = tuple(axes[:, token].tolist()), tuple(expected[:, token].tolist())
    if (axes == np.arange(layout.num_tokens)).all():
        raise LayoutError(
            f"{name}: 1-D positions on {layout.num_vision_tokens} vision tokens: token {token} "
            f"stands at {found} and belongs at {wanted}. Take positions from place_batch."
        )
    if placed.shape[0] == 3 and found == (0, 0, 0):
        raise LayoutError(
            f"{name}: positions start again at token {token}, without a text row: packed samples "
            "would see each other. Give 4 rows, the text row first, and no attention_mask."
        )
    raise LayoutError(
        f"{name}: token {token} stands at {found} (t, h, w) and belongs at {wanted}. Take "
        "positions from place_batch."
    )


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
