"""A vision span as steps from one token to the next, all three axes in one number.

Where a span starts does not change its steps. So the steps of a grid are computed once and
copied wherever the grid occurs, and one running sum over a row gives all its positions. Three
axes of 21 bits share an int64: one sum instead of three.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

import numpy as np

from sightline.errors import LayoutError
from sightline.families import RopeLayout
from sightline.positions.layout import GridThw, Span

AXIS_BITS = 21
AXIS_MASK = (1 << AXIS_BITS) - 1
"""The largest position, 2,097,151: eight times the longest context of these models."""

TIME = 1
HEIGHT = 1 << AXIS_BITS
WIDTH = 1 << 2 * AXIS_BITS
TEXT = TIME + HEIGHT + WIDTH
"""The step of text: all axes by one."""


class Block(NamedTuple):
    """A vision span, wherever it starts.

    Attributes:
        steps: (num_tokens,) int64. Step from every token to the next; the last one leads to the
            token after the span. A memory view: numpy takes three times as long to copy one
            into a slice.
        advance: Positions that the span takes: the maximum of all axes plus one.
    """

    steps: memoryview
    advance: int


_MAX_KEPT_TOKENS = 1 << 20  # 8 MiB of steps a process
KEPT: dict[Hashable, Block] = {}
"""Blocks made before: an image by its grid, a video whose time is scaled by more."""


def block_of(span: Span, rope: RopeLayout, tokens_per_second: float | None) -> Block:
    """The steps of a vision span.

    Args:
        span: An image, a video, or one frame of a video.
        rope: The family's rule.
        tokens_per_second: Positions a second of video takes, for the ``seconds`` rule.

    Raises:
        LayoutError: A video lacks what the rule needs, or its grids are not spans of their own
            where the family wants that.
    """
    grid = span.merged_grid_thw
    assert grid is not None
    key: Hashable = grid
    if span.kind != "image":
        if rope.temporal_rule == "seconds":
            key = (grid, span.seconds_per_grid, tokens_per_second, rope.keeps_fractions)
        elif rope.temporal_rule == "frame_per_span" and grid[0] != 1:
            raise LayoutError(
                f"a video span holds {grid[0]} temporal grids, but this family places every "
                "grid as a span of its own, with its time as text before it."
            )
    found = KEPT.get(key)
    if found is None:
        offsets = np.arange(grid[0], dtype=np.int64)
        if key is not grid:
            offsets = _seconds_to_positions(span, offsets, rope, tokens_per_second)
        found = _build(grid, offsets)
        _keep(key, found)
    return found


def _keep(key: Hashable, block: Block) -> None:
    if len(block.steps) > _MAX_KEPT_TOKENS // 16:
        return
    if sum(len(kept.steps) for kept in KEPT.values()) + len(block.steps) > _MAX_KEPT_TOKENS:
        KEPT.clear()
    KEPT[key] = block


def _seconds_to_positions(
    span: Span, index: np.ndarray, rope: RopeLayout, tokens_per_second: float | None
) -> np.ndarray:
    """(t,) int64: temporal offsets where time is scaled."""
    if span.seconds_per_grid is None:
        raise LayoutError(
            f"a video of {len(index)} temporal grids has no second_per_grid_ts. Without it the "
            "video would be placed as if a grid lasted one second."
        )
    if tokens_per_second is None:
        raise LayoutError("the model's configuration has no tokens_per_second.")
    # float32 and truncation as in the published code: float64 moves a grid at some frame rates.
    seconds = np.float32(span.seconds_per_grid)
    scaled = index.astype(np.float32) * seconds * np.float32(tokens_per_second)
    if scaled[-1] > AXIS_MASK:
        raise LayoutError(
            f"a video of {len(index)} grids of {span.seconds_per_grid} s ends at position "
            f"{scaled[-1]:.0f}, over {AXIS_MASK}. Check second_per_grid_ts."
        )
    offsets = scaled.astype(np.int64)
    if rope.keeps_fractions and bool((offsets != scaled).any()):
        first = int(np.flatnonzero(offsets != scaled)[0])
        raise LayoutError(
            f"temporal grid {first} of a video stands at {scaled[first]:g} positions "
            f"({span.seconds_per_grid:g} s a grid, {tokens_per_second:g} positions a second). This "
            "family's own code keeps the fraction, and positions here are whole.\nTake frames "
            "such that a grid lasts whole seconds, for example 2 frames a second."
        )
    return offsets


def _build(grid: GridThw, offsets: np.ndarray) -> Block:
    t, h, w = grid
    last = int(offsets[-1])
    advance = max(last + 1, h, w)
    steps = np.full((t, h, w), WIDTH, dtype=np.int64)
    next_row = HEIGHT - (w - 1) * WIDTH
    steps[:, :, -1] = next_row
    next_grid = -(h - 1) * HEIGHT - (w - 1) * WIDTH
    steps[:-1, -1, -1] = np.diff(offsets) * TIME + next_grid
    leave = (advance - last) * TIME + (advance - h + 1) * HEIGHT + (advance - w + 1) * WIDTH
    steps[-1, -1, -1] = leave
    return Block(steps.reshape(-1).data.toreadonly(), advance)
