"""Rows of ms-swift.

    {"messages": [{"role": "user", "content": "<image>Find the <ref-object>"},
                  {"role": "assistant", "content": "<bbox>", "loss": true}],
     "images": ["a.png"],
     "objects": {"ref": ["sheep"], "bbox": [[90.9, 160.8, 135, 212.8]], "bbox_type": "real",
                 "image_id": [0]}}

Rows without messages have a question and an answer under one of several names. Media that no
placeholder stands for go to the front of the first turn, as there. ``<ref-object>`` and ``<bbox>``
are filled in order, each from its own list; a box becomes text when its picture's size is known.

Reference: ``StdTemplateInputs``, ``_add_default_tags`` and ``normalize_bbox`` of ms-swift 4.6,
checked in tests/unit/data/test_swift.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from sightline.data.conversation import BoxPart, Message, Part, ReferencePart, Role
from sightline.data.formats.base import (
    Row,
    RowContext,
    check_text,
    is_trained,
    kind_of,
    read_role,
    turn_list,
)
from sightline.data.formats.placeholders import MediaList, Turn, build_messages, media_list

ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}
SYSTEM_FIELDS = ("system", "system_prompt")
QUERY_FIELDS = ("query", "prompt", "input", "instruction", "question", "problem")
RESPONSE_FIELDS = (
    "response",
    "answer",
    "output",
    "targets",
    "target",
    "answer_key",
    "answers",
    "solution",
    "text",
    "completion",
    "content",
)
BOX_MARK = "<bbox>"
REFERENCE_MARK = "<ref-object>"


def parse_swift(row: Row, context: RowContext) -> tuple[Message, ...]:
    """The messages of a row of this shape.

    Raises:
        DataError: The row is wrong; the message names the field.
    """
    turns = list(_turns(row, context))
    images = media_list(row, "image", _present(row, ("images", "image")), context)
    videos = media_list(row, "video", _present(row, ("videos", "video")), context)
    # In this order, so that videos come to stand before images, as there.
    for media in (images, videos):
        turns = _with_missing_placeholders(turns, media)
    objects = row.get("objects")
    if not objects:
        return build_messages(turns, (images, videos), context)
    if not isinstance(objects, dict):
        raise context.error(f"an object expected, found {kind_of(objects)}.", field="objects")
    boxes = _boxes(objects, len(images.written), context)
    references = _references(objects, context)
    _check_marks(turns, BOX_MARK, len(boxes), "objects.bbox", context)
    _check_marks(turns, REFERENCE_MARK, len(references), "objects.ref", context)
    others: dict[str, Iterator[Part]] = {BOX_MARK: iter(boxes), REFERENCE_MARK: iter(references)}
    return build_messages(turns, (images, videos), context, others=others)


def _turns(row: Row, context: RowContext) -> Iterator[Turn]:
    name = _present(row, ("messages", "conversation", "conversations"))
    system_field = _present(row, SYSTEM_FIELDS)
    system = (
        "" if system_field is None else check_text(row[system_field], context, field=system_field)
    )
    listed = [] if name is None else turn_list(row, name, context)
    starts_with_system = bool(listed) and "system" in (listed[0].get("role"), listed[0].get("from"))
    if system and system_field is not None and not starts_with_system:
        yield Turn(role="system", text=system, field=system_field, text_field=system_field)
    if name is None:
        yield from _question_and_answer(row, context)
        return
    for index, turn in enumerate(listed):
        field = f"{name}[{index}]"
        role_tag = "role" if "role" in turn else "from" if "from" in turn else "role"
        content_tag = "content" if "content" in turn else "value" if "value" in turn else "content"
        text_field = f"{field}.{content_tag}"
        yield Turn(
            role=read_role(turn, role_tag, ROLES, context, field=field),
            text=check_text(turn.get(content_tag), context, field=text_field),
            field=field,
            text_field=text_field,
            is_trained=is_trained(turn, context, field=field),
        )


def _question_and_answer(row: Row, context: RowContext) -> Iterator[Turn]:
    query, response = (_only_one(row, names, context) for names in (QUERY_FIELDS, RESPONSE_FIELDS))
    pairs = row.get("history") or []
    if not isinstance(pairs, list):
        what = f"a list of [question, answer] pairs expected, found {kind_of(pairs)}."
        raise context.error(what, field="history")
    for index, pair in enumerate(pairs):
        if not isinstance(pair, list) or len(pair) != 2:
            raise context.error("[question, answer] expected.", field=f"history[{index}]")
        for place, said in enumerate(pair):
            field = f"history[{index}][{place}]"
            speaker: Role = "assistant" if place else "user"
            text = check_text(said, context, field=field)
            yield Turn(role=speaker, text=text, field=field, text_field=field)
    asked: tuple[tuple[Role, str | None, tuple[str, ...]], ...] = (
        ("user", query, QUERY_FIELDS),
        ("assistant", response, RESPONSE_FIELDS),
    )
    for role, name, names in asked:
        if name is None:
            known = f"Known names: {', '.join(names[:6])}."
            wanted = "a question" if role == "user" else "an answer"
            what = f"the row has neither messages nor {wanted}."
            raise context.error(what, fix=known)
        text = check_text(row[name], context, field=name)
        yield Turn(role=role, text=text, field=name, text_field=name)


def _with_missing_placeholders(turns: Sequence[Turn], media: MediaList) -> list[Turn]:
    """Turns with the placeholders that ms-swift would add itself, at the front of the first one."""
    written = sum(turn.text.count(media.placeholder) for turn in turns)
    missing = len(media.written) - written
    first = next((i for i, turn in enumerate(turns) if turn.role == "user"), None)
    if missing <= 0 or first is None:
        return list(turns)
    added = replace(turns[first], text=media.placeholder * missing + turns[first].text)
    return [*turns[:first], added, *turns[first + 1 :]]


def _boxes(objects: Row, num_images: int, context: RowContext) -> list[BoxPart]:
    boxes = objects.get("bbox")
    if boxes is None:
        return []
    if not isinstance(boxes, list):
        raise context.error(f"a list expected, found {kind_of(boxes)}.", field="objects.bbox")
    space = objects.get("bbox_type") or "real"
    if space not in ("real", "norm1"):
        shown = space if isinstance(space, str) else kind_of(space)
        raise context.error(
            f"the box type {shown} is unknown.",
            field="objects.bbox_type",
            fix="Known: real, norm1.",
        )
    images = objects.get("image_id") or []
    if not isinstance(images, list):
        raise context.error(f"a list expected, found {kind_of(images)}.", field="objects.image_id")
    parts = []
    for index, box in enumerate(boxes):
        field = f"objects.bbox[{index}]"
        numbers = _numbers(box, context, field=field)
        image = images[index] if index < len(images) else 0
        if isinstance(image, bool) or not isinstance(image, int) or not 0 <= image < num_images:
            raise context.error(
                f"the box belongs to image {image!r}, and the sample has {num_images} images.",
                field=f"objects.image_id[{index}]",
                fix="Images are counted from 0.",
                code="box.image",
            )
        parts.append(
            BoxPart(
                numbers=numbers,
                space="pixels" if space == "real" else "unit",
                image=image,
                field=field,
            )
        )
    return parts


def _numbers(box: object, context: RowContext, *, field: str) -> tuple[float, ...]:
    is_list = isinstance(box, list)
    good = is_list and all(
        isinstance(n, int | float) and not isinstance(n, bool) and abs(n) < 1e9 and math.isfinite(n)
        for n in box
    )
    if not isinstance(box, list) or not good or len(box) not in (2, 4):
        found = f"a list of {len(box)}" if is_list and isinstance(box, list) else kind_of(box)
        raise context.error(
            f"[x1, y1, x2, y2] or [x, y] expected, finite numbers, found {found}.",
            field=field,
            code="box.wrong",
        )
    return tuple(float(n) for n in box)


def _references(objects: Row, context: RowContext) -> list[ReferencePart]:
    names = objects.get("ref")
    if names is None:
        return []
    if not isinstance(names, list):
        raise context.error(f"a list expected, found {kind_of(names)}.", field="objects.ref")
    return [
        ReferencePart(text=check_text(name, context, field=f"objects.ref[{index}]"))
        for index, name in enumerate(names)
    ]


def _check_marks(
    turns: Sequence[Turn], mark: str, num_given: int, field: str, context: RowContext
) -> None:
    num_marks = sum(turn.text.count(mark) for turn in turns)
    if num_marks != num_given:
        raise context.error(
            f"{num_marks} {mark} in the text, {num_given} in {field}.",
            field=field,
            fix=f"Write one {mark} for each, in their order.",
            code="box.count",
        )


def _only_one(row: Row, names: Sequence[str], context: RowContext) -> str | None:
    """The field of a row among several names: the first name goes before the others."""
    found = [name for name in names if row.get(name) not in (None, "")]
    if len(found) > 1 and found[0] != names[0]:
        raise context.error(
            f"{' and '.join(found)} could each be the row's {names[0]}.",
            field=found[0],
            fix=f"Call the right one {names[0]}, or declare format alpaca with columns.",
        )
    return found[0] if found else _present(row, names)


def _present(row: Row, names: Sequence[str]) -> str | None:
    return next((name for name in names if row.get(name) is not None), None)
