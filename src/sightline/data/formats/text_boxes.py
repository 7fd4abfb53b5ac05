"""Boxes that stand in the text of a sample, taken out as numbers so that they follow their picture.

Text that holds ``"bbox_2d": [x1, y1, x2, y2]``, ``"point_2d": [x, y]`` or
``<|box_start|>(x1,y1),(x2,y2)<|box_end|>`` becomes text, box, text. The box is written again where
the size is known at which its picture is seen (`sightline.data.boxes.write_boxes`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from sightline.config import TextBoxes
from sightline.data.conversation import BoxPart, ImagePart, Message, Part, TextPart
from sightline.data.formats.base import RowContext

_NUMBER = r"-?\d+(?:\.\d+)?"
_PAIR = rf"\(\s*{_NUMBER}\s*,\s*{_NUMBER}\s*\)"
_BOX = re.compile(
    rf"""["'](?P<name>bbox_2d|point_2d)["']\s*:\s*"""
    rf"(?P<list>\[\s*{_NUMBER}(?:\s*,\s*{_NUMBER})*\s*\])"
    rf"|(?P<tokens><\|box_start\|>\s*{_PAIR}(?:\s*,\s*{_PAIR})?\s*<\|box_end\|>)"
)
_NUM_NUMBERS = {"bbox_2d": 4, "point_2d": 2}


def lift_text_boxes(
    messages: Sequence[Message], space: TextBoxes, context: RowContext
) -> tuple[Message, ...]:
    """The messages with the boxes of their texts as parts of their own.

    Args:
        messages: The turns of a sample.
        space: What the numbers mean in the source.
        context: Where the row stands.

    Raises:
        DataError: A box has the wrong number of sides, or no picture that it could be in.
    """
    lifted: list[Message] = []
    # Images of the last question that brought some, by their number in the conversation.
    asked_about: range = range(0)
    num_images = 0
    for message in messages:
        brought = sum(isinstance(part, ImagePart) for part in message.parts)
        if brought:
            asked_about = range(num_images, num_images + brought)
            num_images += brought
        parts = tuple(_lifted(message, space, asked_about, context))
        lifted.append(replace(message, parts=parts))
    return tuple(lifted)


def find_text_boxes(text: str) -> Iterator[tuple[float, ...]]:
    """The numbers of every box and point of a text: x1, y1, x2, y2, or x, y.

    >>> list(find_text_boxes('{"bbox_2d": [1, 2, 3.5, 4]}, <|box_start|>(5,6)<|box_end|>'))
    [(1.0, 2.0, 3.5, 4.0), (5.0, 6.0)]
    """
    for found in _BOX.finditer(text):
        numbers = _numbers_of(found)
        if len(numbers) in (2, 4):
            yield numbers


def _numbers_of(found: re.Match[str]) -> tuple[float, ...]:
    written = found["list"] or found["tokens"]
    return tuple(float(number) for number in re.findall(_NUMBER, written))


def _lifted(
    message: Message, space: TextBoxes, asked_about: range, context: RowContext
) -> Iterator[Part]:
    for part in message.parts:
        if not isinstance(part, TextPart) or message.role == "system":
            yield part
            continue
        done = 0
        for found in _BOX.finditer(part.text):
            start, stop = found.span("list" if found["list"] else "tokens")
            if start > done:
                yield TextPart(text=part.text[done:start])
            yield _box(found, space, asked_about, message.field, context)
            done = stop
        if done < len(part.text):
            yield TextPart(text=part.text[done:])


def _box(
    found: re.Match[str], space: TextBoxes, asked_about: range, field: str, context: RowContext
) -> BoxPart:
    written = found["list"] or found["tokens"]
    numbers = _numbers_of(found)
    wanted = _NUM_NUMBERS.get(found["name"] or "")
    if wanted is not None and len(numbers) != wanted:
        raise context.error(
            f"{found['name']} has {wanted} numbers, found {len(numbers)}: {written[:60]}.",
            field=field,
            fix="Mend the box.",
            code="box.wrong",
        )
    if not asked_about:
        raise context.error(
            f"the box {written[:60]} stands in a turn about no picture.",
            field=field,
            fix="Mend the sample, or leave text_boxes out: then the text stays as it is.",
            code="box.image",
        )
    return BoxPart(
        numbers=numbers,
        space=space,
        image=asked_about[-1],
        others=tuple(asked_about[:-1]),
        field=field,
        form="list" if found["list"] else None,
    )
