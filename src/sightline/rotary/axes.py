"""Which axis turns which pair of dimensions.

A head is turned in pairs of dimensions, each at its own frequency, the fastest first. In 1-D
RoPE all pairs turn with the token's index. In M-RoPE every pair turns with one of the axes:

    sectioned          t t t h h h w w w      Qwen2-VL, Qwen2.5-VL, GLM-4V
    interleaved        t h w t h w t h w      Qwen3-VL, Qwen3.5: every axis gets fast and slow
    height_width_time  h w h w h w t t t      ERNIE-4.5-VL

Text has the same position on all axes, so for text every one of them is 1-D RoPE.
"""

from __future__ import annotations

from collections.abc import Sequence

from sightline.errors import LayoutError
from sightline.families.record import AxisRule


def axis_of_pairs(axes: AxisRule, sections: Sequence[int]) -> list[int]:
    """The axis of every pair: 0 time, 1 height, 2 width.

    Args:
        axes: The arrangement.
        sections: Pairs that each axis gets, as in ``mrope_section``: time, height, width; for
            ``height_width_time`` height, width, time.

    Raises:
        LayoutError: The sections do not fit the arrangement.

    >>> axis_of_pairs("sectioned", [2, 3, 3])
    [0, 0, 1, 1, 1, 2, 2, 2]
    >>> axis_of_pairs("interleaved", [4, 2, 2])
    [0, 1, 2, 0, 1, 2, 0, 0]
    >>> axis_of_pairs("height_width_time", [2, 2, 3])
    [1, 2, 1, 2, 0, 0, 0]
    """
    if len(sections) < 2 or min(sections) < 1:
        raise LayoutError(f"sections {list(sections)}: at least two axes, each with a pair.")
    if axes == "sectioned":
        return [axis for axis, count in enumerate(sections) for _ in range(count)]
    if axes == "interleaved":
        return _interleaved(sections)
    if len(sections) != 3 or sections[0] != sections[1]:
        raise LayoutError(
            f"sections {list(sections)}: height and width alternate, so the first two of three "
            "sections must be equal."
        )
    return [1, 2] * sections[0] + [0] * sections[2]


def _interleaved(sections: Sequence[int]) -> list[int]:
    """Time everywhere but at the places of the other axes."""
    num_axes, num_pairs = len(sections), sum(sections)
    pairs = [0] * num_pairs
    for axis, count in enumerate(sections[1:], start=1):
        places = range(axis, axis + count * num_axes, num_axes)
        if places[-1] >= num_pairs:
            raise LayoutError(
                f"sections {list(sections)}: axis {axis} has {count} pairs, and its place "
                f"{places[-1]} lies behind the last of {num_pairs}. Give the first axis more."
            )
        for place in places:
            pairs[place] = axis
    return pairs
