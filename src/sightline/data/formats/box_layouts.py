"""Boxes as a source lays out their numbers, put into x1, y1, x2, y2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sightline.config import BoxLayout
from sightline.data.conversation import BoxPart, Message, Part


def arrange_boxes(
    messages: Sequence[Message], layout: BoxLayout, *, are_stored: bool
) -> tuple[Message, ...]:
    """The messages with every box as x1, y1, x2, y2 and every point as x, y.

    Args:
        messages: The turns of a sample.
        layout: What the numbers of the source are.
        are_stored: Whether they are on the pixels as they are stored.
    """
    if layout == "xyxy" and not are_stored:
        return tuple(messages)
    return tuple(
        replace(
            message,
            parts=tuple(_arranged(part, layout, are_stored=are_stored) for part in message.parts),
        )
        for message in messages
    )


def corners_of(numbers: tuple[float, ...], layout: BoxLayout) -> tuple[float, ...]:
    """Numbers of a box or a point in a layout as x1, y1, x2, y2 or x, y.

    >>> corners_of((10, 20, 30, 40), "xywh"), corners_of((10, 20), "yxyx")
    ((10, 20, 40, 60), (20, 10))
    """
    if layout == "yxyx":
        return tuple(
            number
            for first, second in zip(numbers[::2], numbers[1::2], strict=True)
            for number in (second, first)
        )
    if layout == "xywh" and len(numbers) == 4:
        x, y, width, height = numbers
        return x, y, x + width, y + height
    return numbers


def _arranged(part: Part, layout: BoxLayout, *, are_stored: bool) -> Part:
    if not isinstance(part, BoxPart):
        return part
    return replace(part, numbers=corners_of(part.numbers, layout), is_stored=are_stored)
