"""OpenAI messages.

    {"messages": [{"role": "user", "content": [{"type": "image", "image": "a.png"},
                                               {"type": "text", "text": "What?"}]},
                  {"role": "assistant", "content": "…"}]}

An image or a video stands where its part stands, so the text needs no placeholder, and
``<image>`` in it is text like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from sightline.data.conversation import ImagePart, Message, Part, Role, TextPart, VideoPart
from sightline.data.formats.base import (
    Row,
    RowContext,
    check_order,
    check_text,
    kind_of,
    read_role,
    turn_list,
)
from sightline.data.formats.media import shortened

ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "system": "system"}

# The field that names the file, by the type of the part.
PATH_FIELDS = {
    "image": ("image", "path", "url", "image_url"),
    "image_url": ("image_url", "url", "path", "image"),
    "video": ("video", "path", "url", "video_url"),
    "video_url": ("video_url", "url", "path", "video"),
}


def parse_openai(row: Row, context: RowContext) -> tuple[Message, ...]:
    """The messages of a row of this shape.

    Raises:
        DataError: The row is wrong; the message names the field.
    """
    _refuse_listed_files(row, context)
    messages: list[Message] = []
    for index, turn in enumerate(turn_list(row, "messages", context)):
        field = f"messages[{index}]"
        role = read_role(turn, "role", ROLES, context, field=field)
        parts = _joined(_parts(turn.get("content"), role, context, field=f"{field}.content"))
        messages.append(Message(role=role, parts=tuple(parts), field=field))
    return check_order(messages, context)


def _refuse_listed_files(row: Row, context: RowContext) -> None:
    """Files beside the messages would never be seen: nothing in the messages points to them."""
    for name in ("image", "images", "video", "videos"):
        if row.get(name):
            raise context.error(
                "files listed beside OpenAI messages belong to no message.",
                field=name,
                fix="Name each file in a content part, or write ShareGPT: text with one <image> or "
                "<video> for each file.",
            )


def _joined(parts: Iterator[Part]) -> Iterator[Part]:
    """Neighbouring text as one part, and no empty one."""
    for is_text, group in groupby(parts, key=lambda part: isinstance(part, TextPart)):
        if not is_text:
            yield from group
        elif text := "".join(part.text for part in group if isinstance(part, TextPart)):
            yield TextPart(text=text)


def _parts(content: object, role: Role, context: RowContext, *, field: str) -> Iterator[Part]:
    if not isinstance(content, list):
        yield TextPart(text=check_text(content, context, field=field))
        return
    for index, part in enumerate(content):
        part_field = f"{field}[{index}]"
        if not isinstance(part, dict):
            what = f"a content part (an object) expected, found {kind_of(part)}."
            raise context.error(what, field=part_field)
        yield _part(part, role, context, field=part_field)


def _part(part: Row, role: Role, context: RowContext, *, field: str) -> Part:
    kind = part.get("type")
    if kind == "text":
        return TextPart(text=check_text(part.get("text"), context, field=f"{field}.text"))
    if not isinstance(kind, str) or kind not in PATH_FIELDS:
        found = shortened(kind) if isinstance(kind, str) else kind_of(kind)
        fix = f"Known types: text, {', '.join(PATH_FIELDS)}."
        raise context.error(f"the type {found} is unknown.", field=f"{field}.type", fix=fix)
    if role != "user":
        noun = "an image" if kind.startswith("image") else "a video"
        what = f"{noun} stands in the {role}'s turn; images and videos belong to the user."
        raise context.error(what, field=field, fix="Move it to a user turn.")
    written, path_field = _written_path(part, kind, context, field=field)
    path = context.media.resolve(written, origin=context.origin, field=path_field)
    return (ImagePart if kind.startswith("image") else VideoPart)(path=path, field=path_field)


def _written_path(part: Row, kind: str, context: RowContext, *, field: str) -> tuple[str, str]:
    """The path that a media part names, and the field that it stands in."""
    known = PATH_FIELDS[kind]
    # Tables with one column for every kind of part fill the others with null.
    given = {name: value for name, value in part.items() if value is not None and name != "type"}
    for name in given:
        if name not in known:
            what = "this option of a single image or video is not read by this version."
            fix = "Remove it. Pixels and frames are set for the whole run, under data."
            raise context.error(what, field=f"{field}.{name}", fix=fix)
    if len(given) != 1:
        what = f"one field that names the file expected, found {', '.join(given) or 'none'}."
        raise context.error(what, field=field, fix=f"Give one of {', '.join(known)}.")
    [(name, value)] = given.items()
    path_field = f"{field}.{name}"
    if isinstance(value, dict) and name.endswith("_url"):
        value, path_field = value.get("url"), f"{path_field}.url"
    if not isinstance(value, str):
        raise context.error(f"a path expected, found {kind_of(value)}.", field=path_field)
    return value, path_field
