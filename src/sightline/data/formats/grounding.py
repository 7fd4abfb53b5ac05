"""A picture with its boxes as a conversation, in the words of the user's template.

    {"image": "a.png", "objects": [{"label": "cat", "box": [10, 20, 30, 40]}], "space": "pixels"}

COCO, YOLO and Pascal VOC are turned into such rows by ``sightline.data.rows``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal

from sightline.config import Template
from sightline.data.conversation import BoxPart, Message, Part, TextPart
from sightline.data.formats.base import Row, RowContext, check_order, check_text, kind_of

_BOX_MARK, _TOKENS_MARK = "{box}", "{box_tokens}"


def parse_grounding(row: Row, template: Template, context: RowContext) -> tuple[Message, ...]:
    """The conversation about a picture's boxes.

    Raises:
        DataError: The row is wrong; the message names the field.
        MediaError: The picture is not there.
    """
    objects = row.get("objects")
    if not isinstance(objects, list):
        raise context.error(f"a list expected, found {kind_of(objects)}.", field="objects")
    labels = list(dict.fromkeys(_label(item, i, context) for i, item in enumerate(objects)))
    # Split first: a label may be called <image>.
    before, after = (
        said.replace("{labels}", ", ".join(labels)) for said in template.question.split("<image>")
    )
    image = context.media.part(row.get("image"), "image", origin=context.origin, field="image")
    asked: list[Part] = [*_text(before), image, *_text(after)]
    answer = tuple(_joined(_answer(objects, row, template, context)))
    if not answer:
        raise context.error(
            "the picture has no object, and template.empty says nothing for it.",
            field="objects",
            fix="Set template.empty, or leave the picture out.",
        )
    messages = [
        Message(role="user", parts=tuple(asked), field="template.question"),
        Message(role="assistant", parts=answer, field="template.answer"),
    ]
    if template.system:
        system = tuple(_text(template.system))
        messages.insert(0, Message(role="system", parts=system, field="template.system"))
    for message in messages:
        check_text(message.text, context, field=message.field)
    return check_order(messages, context)


def _answer(
    objects: Sequence[object], row: Row, template: Template, context: RowContext
) -> Iterator[Part]:
    if not objects and template.empty is not None:
        yield from _text(template.empty)
        return
    before, after = template.answer.split("{objects}")
    yield from _text(before)
    for index, item in enumerate(objects):
        assert isinstance(item, dict)
        if index:
            yield from _text(template.separator)
        as_tokens = _TOKENS_MARK in template.object
        opening, closing = template.object.split(_TOKENS_MARK if as_tokens else _BOX_MARK)
        label = _label(item, index, context)
        yield from _text(opening.replace("{label}", label))
        yield _box(item, index, row, context, "tokens" if as_tokens else "list")
        yield from _text(closing.replace("{label}", label))
    yield from _text(after)


def _box(
    item: Row, index: int, row: Row, context: RowContext, form: Literal["list", "tokens"]
) -> BoxPart:
    field = f"objects[{index}].box"
    box, space = item.get("box"), row.get("space")
    is_box = isinstance(box, list) and len(box) == 4
    if not isinstance(box, list) or not is_box or not all(isinstance(n, int | float) for n in box):
        what = f"[x1, y1, x2, y2] expected, found {kind_of(box)}."
        raise context.error(what, field=field, code="box.wrong")
    return BoxPart(
        numbers=tuple(float(number) for number in box),
        space="unit" if space == "unit" else "pixels",
        image=0,
        field=field,
        form=form,
    )


def _label(item: object, index: int, context: RowContext) -> str:
    if not isinstance(item, dict):
        what = f"an object expected, found {kind_of(item)}."
        raise context.error(what, field=f"objects[{index}]")
    label = check_text(item.get("label"), context, field=f"objects[{index}].label")
    # The label stands inside quotation marks of JSON in most templates.
    return re.sub(r'["\\\n]', " ", label).strip()


def _text(text: str) -> Iterator[TextPart]:
    if text:
        yield TextPart(text=text)


def _joined(parts: Iterator[Part]) -> Iterator[Part]:
    """Neighbouring text as one part."""
    held = ""
    for part in parts:
        if isinstance(part, TextPart):
            held += part.text
            continue
        yield from _text(held)
        held = ""
        yield part
    yield from _text(held)
