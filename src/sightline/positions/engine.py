"""From a layout to M-RoPE position ids.

Text advances all three axes together. A vision span starts where the text before it ended and
spreads over time, height and width; text after it continues at the maximum of all three axes
plus one. That last rule is Qwen's published one. Releases 5.3 and later of transformers leave
out the temporal axis for Qwen2-VL and Qwen2.5-VL, so that text overlaps a long video.

Reference: ``get_rope_index_2``, ``get_rope_index_25`` and ``get_rope_index_3`` of QwenLM/Qwen3-VL,
``qwen-vl-finetune/qwenvl/data/rope2d.py``, commit 9658872, checked by
``tests/parity/test_positions_golden.py``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sightline.errors import LayoutError
from sightline.families import RopeLayout
from sightline.positions.layout import Layout, Span


class Positions(NamedTuple):
    """Positions of one sample.

    Attributes:
        position_ids: (3, seq) int64. Temporal, height and width position of every token.
        rope_delta: Maximum position plus one, minus the length: what a decoder adds to the
            token index to continue.
    """

    position_ids: np.ndarray
    rope_delta: int


def build_position_ids(
    layout: Layout, rope: RopeLayout, *, tokens_per_second: float | None = None
) -> Positions:
    """Position ids of one sample without padding.

    Args:
        layout: Spans of the sample. For families with one span per video frame, every frame is
            a span of its own.
        rope: The family's position rule.
        tokens_per_second: Positions a second of video takes, for the ``seconds`` rule.

    Raises:
        LayoutError: The layout is empty, or a video lacks what the rule needs.

    >>> from sightline.families import FAMILIES
    >>> from sightline.positions.layout import Layout, text_span, vision_span
    >>> image = vision_span("image", (1, 4, 4), spatial_merge_size=2)
    >>> layout = Layout(spans=(text_span(2), image, text_span(1)))
    >>> positions = build_position_ids(layout, FAMILIES["qwen2_vl"].rope)
    >>> positions.position_ids.tolist()
    [[0, 1, 2, 2, 2, 2, 4], [0, 1, 2, 2, 3, 3, 4], [0, 1, 2, 3, 2, 3, 4]]
    >>> positions.rope_delta
    -2
    """
    num_tokens = layout.num_tokens
    if num_tokens == 0:
        raise LayoutError("a layout without a token has no positions.")
    position_ids = np.empty((3, num_tokens), dtype=np.int64)
    start = 0  # token index
    next_position = 0
    for span in layout.spans:
        stop = start + span.num_tokens
        if span.merged_grid_thw is None:
            position_ids[:, start:stop] = np.arange(next_position, next_position + span.num_tokens)
            next_position += span.num_tokens
        else:
            t, h, w = span.merged_grid_thw
            grid = position_ids[:, start:stop].reshape(3, t, h, w)
            temporal = _temporal_positions(span, rope, tokens_per_second)
            grid[0] = (next_position + temporal)[:, None, None]
            grid[1] = np.arange(next_position, next_position + h)[None, :, None]
            grid[2] = np.arange(next_position, next_position + w)[None, None, :]
            next_position += max(int(temporal[-1]) + 1, h, w)
        start = stop
    return Positions(position_ids, next_position - num_tokens)


def _temporal_positions(
    span: Span, rope: RopeLayout, tokens_per_second: float | None
) -> np.ndarray:
    """Offsets of the temporal grids of a span: (t,) int64, first one 0."""
    assert span.merged_grid_thw is not None
    num_grids = span.merged_grid_thw[0]
    index = np.arange(num_grids, dtype=np.int64)
    if span.kind == "image" or rope.temporal_rule == "grid_index":
        return index
    if rope.temporal_rule == "frame_per_span":
        if num_grids != 1:
            raise LayoutError(
                f"a video span holds {num_grids} temporal grids, but this family places every "
                "grid as a span of its own, with its time as text before it."
            )
        return index
    if span.seconds_per_grid is None:
        raise LayoutError(
            f"a video of {num_grids} temporal grids has no second_per_grid_ts. Without it the "
            "video would be placed as if a grid lasted one second."
        )
    if tokens_per_second is None:
        raise LayoutError("the model's vision_config has no tokens_per_second.")
    # float32 and truncation as in the published code: float64 moves a grid at some frame rates.
    seconds = np.float32(span.seconds_per_grid)
    scaled = index.astype(np.float32) * seconds * np.float32(tokens_per_second)
    return scaled.astype(np.int64)
