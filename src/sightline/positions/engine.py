"""From layouts to M-RoPE position ids.

Text advances all three axes together. A vision span starts where the text before it ended and
spreads over time, height and width; text after it continues at the maximum of all three axes
plus one. That last rule is Qwen's published one. Releases 5.3 and later of transformers leave
out the temporal axis for Qwen2-VL and Qwen2.5-VL, so that text overlaps a long video.

Reference: ``get_rope_index_2``, ``get_rope_index_25`` and ``get_rope_index_3`` of QwenLM/Qwen3-VL,
``qwen-vl-finetune/qwenvl/data/rope2d.py``, commit 9658872, checked by
``tests/parity/test_positions_golden.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sightline.errors import LayoutError
from sightline.families import RopeLayout
from sightline.positions.blocks import AXIS_BITS, AXIS_MASK, KEPT, TEXT, block_of
from sightline.positions.layout import Layout


class Positions(NamedTuple):
    """Positions of one sample.

    Attributes:
        position_ids: (3, seq) int64. Temporal, height and width position of every token.
        rope_delta: Maximum position plus one, minus the length: what a decoder adds to the
            token index to continue.
    """

    position_ids: np.ndarray
    rope_delta: int


class PlacedRows(NamedTuple):
    """Positions of rows of a batch.

    Attributes:
        model_position_ids: (4, rows, width) int64. Text row, then temporal, height and width.
            The text row counts the tokens of a sample from 0, which tells packed samples
            apart. Padding is 0.
        rope_deltas: (rows, 1) int64. Of the last sample of the row.
    """

    model_position_ids: np.ndarray
    rope_deltas: np.ndarray


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
    placed = place_layouts([[layout]], rope, tokens_per_second=tokens_per_second)
    return Positions(placed.model_position_ids[1:, 0], int(placed.rope_deltas[0, 0]))


def place_layouts(
    rows: Sequence[Sequence[Layout]],
    rope: RopeLayout,
    *,
    tokens_per_second: float | None = None,
    width: int | None = None,
    first_columns: Sequence[int] | None = None,
) -> PlacedRows:
    """Position ids of a batch, from layouts alone.

    Args:
        rows: For every row its samples, one after the other. One sample a row is a padded
            batch; several are a packed row, in which each sample starts again at 0.
        rope: The family's position rule.
        tokens_per_second: Positions a second of video takes, for the ``seconds`` rule.
        width: Columns of the batch; None for the longest row.
        first_columns: Column of the first token of every row, to pad on the left; None for 0.

    Raises:
        LayoutError: A layout is empty or does not fit the width, or a video lacks what the
            rule needs.
    """
    starts = first_columns or [0] * len(rows)
    needed = 0
    for row, start in zip(rows, starts, strict=True):
        needed = max(needed, start + sum([layout.num_tokens for layout in row]))
    width = needed if width is None else width
    if needed > width:
        raise LayoutError(f"rows take {needed} columns, but the batch has {width}.")
    # Steps between neighbours, summed up below. Every span writes the step to the token after
    # it: behind a row's end that is the next row's first token, which is set right in its turn.
    flat = np.full(len(rows) * width + 1, TEXT, dtype=np.int64)
    view, steps = flat.data, flat[:-1].reshape(len(rows), width)
    placed = np.empty((4, len(rows), width), dtype=np.int64)
    counting = placed[0]
    counting[...] = np.arange(width)
    deltas = []
    for row, layouts in enumerate(rows):
        column, position, delta = starts[row], 0, 0
        base = row * width
        if column:
            steps[row, :column] = 0
            counting[row, :column] = 0
        view[base + column] = 0
        for layout in layouts:
            start = column
            if position:  # the sample before left off here: this one starts again at 0
                view[base + start] -= position * TEXT
            column = start + layout.num_tokens
            tokens = view[base + start + 1 : base + column + 1]
            position = _write_steps(tokens, layout, rope, tokens_per_second)
            if start:
                counting[row, start:column] = np.arange(column - start)
            delta = position - (column - start)
        deltas.append([delta])
        if column < width:
            if position:
                view[base + column] -= position * TEXT
            steps[row, column + 1 :] = 0
            counting[row, column:] = 0
    packed = np.add.accumulate(steps, axis=1, out=steps)
    np.bitwise_and(packed, AXIS_MASK, out=placed[1])
    np.right_shift(packed, 2 * AXIS_BITS, out=placed[3])
    np.right_shift(packed, AXIS_BITS, out=packed)
    np.bitwise_and(packed, AXIS_MASK, out=placed[2])
    return PlacedRows(placed, np.array(deltas, dtype=np.int64).reshape(-1, 1))


def _write_steps(
    steps: memoryview, layout: Layout, rope: RopeLayout, tokens_per_second: float | None
) -> int:
    """Steps of the vision spans of one sample, where text steps are already.

    Args:
        steps: int64, from the sample's second token on: the step that leads to each token.
        layout: The sample.
        rope: The family's rule.
        tokens_per_second: For the ``seconds`` rule.

    Returns:
        The position after the sample.
    """
    if layout.num_tokens == 0:
        raise LayoutError("a layout without a token has no positions.")
    position = layout.num_tokens - layout.num_vision_tokens
    for where, span in layout.vision_spans:
        # Most spans are images of a grid seen before, and a batch may have hundreds.
        block = KEPT.get(span.merged_grid_thw) if span.kind == "image" else None
        span_steps, advance = block or block_of(span, rope, tokens_per_second)
        steps[where] = span_steps
        position += advance
    if position > AXIS_MASK:
        raise LayoutError(
            f"a sample takes {position} positions, over {AXIS_MASK}: no model of these families "
            "goes that far. Check second_per_grid_ts and the length of the sample."
        )
    return position
