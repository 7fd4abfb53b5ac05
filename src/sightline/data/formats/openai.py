"""OpenAI messages.

    {"messages": [{"role": "user", "content": [{"type": "image", "image": "a.png"},
                                               {"type": "text", "text": "What?"}]},
                  {"role": "assistant", "content": "…"}]}

An image or a video stands where its part stands, so the text needs no placeholder, and
``<image>`` in it is text like any other. A part without a path takes the next file of the row's
``images`` or ``videos``, as TRL's data sets have it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from sightline.data.conversation import Message, Part, Role, TextPart
from sightline.data.formats.base import (
    Row,
    RowContext,
    check_order,
    check_text,
    is_trained,
    kind_of,
    read_role,
    turn_list,
)
from sightline.data.formats.media import MediaKind, shortened
from sightline.data.formats.placeholders import MediaList, media_list

ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "system": "system"}

# The field that names the file, by the type of the part.
PATH_FIELDS = {
    "image": ("image", "path", "url", "image_url"),
    "image_url": ("image_url", "url", "path", "image"),
    "video": ("video", "path", "url", "video_url"),
    "video_url": ("video_url", "url", "path", "video"),
}

_NO_FILE = ("type", "text")


@dataclass(kw_only=True, slots=True)
class _Listed:
    """The files beside the messages, and how many parts have taken one."""

    files: MediaList
    taken: int = 0


def parse_openai(row: Row, context: RowContext) -> tuple[Message, ...]:
    """The messages of a row of this shape.

    Raises:
        DataError: The row is wrong; the message names the field.
    """
    kinds: tuple[MediaKind, ...] = ("image", "video")
    listed: dict[MediaKind, _Listed] = {
        kind: _Listed(files=_files(row, kind, context)) for kind in kinds
    }
    messages: list[Message] = []
    for index, turn in enumerate(turn_list(row, "messages", context)):
        field = f"messages[{index}]"
        role = read_role(turn, "role", ROLES, context, field=field)
        content = turn.get("content")
        parts = _joined(_parts(content, role, listed, context, field=f"{field}.content"))
        trained = is_trained(turn, context, field=field)
        messages.append(Message(role=role, parts=tuple(parts), field=field, is_trained=trained))
    for kind, files in listed.items():
        _refuse_left_over(kind, files, context)
    return check_order(messages, context)


def _files(row: Row, kind: MediaKind, context: RowContext) -> MediaList:
    name = next((name for name in (f"{kind}s", kind) if row.get(name)), None)
    return media_list(row, kind, name, context)


def _refuse_left_over(kind: MediaKind, listed: _Listed, context: RowContext) -> None:
    """Files that no part takes would never be seen."""
    num_files = len(listed.files.written)
    if listed.taken == num_files:
        return
    raise context.error(
        f"{num_files} listed beside the messages, {listed.taken} parts of type {kind} without a "
        "path to take them.",
        field=listed.files.field,
        fix=f'Write one {{"type": "{kind}"}} part for each file, or name each file in its part.',
        code="media.count",
    )


def _joined(parts: Iterator[Part]) -> Iterator[Part]:
    """Neighbouring text as one part, and no empty one."""
    for is_text, group in groupby(parts, key=lambda part: isinstance(part, TextPart)):
        if not is_text:
            yield from group
        elif text := "".join(part.text for part in group if isinstance(part, TextPart)):
            yield TextPart(text=text)


def _parts(
    content: object,
    role: Role,
    listed: dict[MediaKind, _Listed],
    context: RowContext,
    *,
    field: str,
) -> Iterator[Part]:
    if not isinstance(content, list):
        yield TextPart(text=check_text(content, context, field=field))
        return
    for index, part in enumerate(content):
        part_field = f"{field}[{index}]"
        if not isinstance(part, dict):
            what = f"a content part (an object) expected, found {kind_of(part)}."
            raise context.error(what, field=part_field)
        yield _part(part, role, listed, context, field=part_field)


def _part(
    part: Row, role: Role, listed: dict[MediaKind, _Listed], context: RowContext, *, field: str
) -> Part:
    kind = part.get("type")
    if kind == "text":
        return TextPart(text=check_text(part.get("text"), context, field=f"{field}.text"))
    if not isinstance(kind, str) or kind not in PATH_FIELDS:
        found = shortened(kind) if isinstance(kind, str) else kind_of(kind)
        fix = f"Known types: text, {', '.join(PATH_FIELDS)}."
        raise context.error(f"the type {found} is unknown.", field=f"{field}.type", fix=fix)
    media: MediaKind = "image" if kind.startswith("image") else "video"
    if role != "user":
        noun = "an image" if media == "image" else "a video"
        what = f"{noun} stands in the {role}'s turn; images and videos belong to the user."
        raise context.error(what, field=field, fix="Move it to a user turn.", code="media.role")
    written, path_field = _written(part, kind, listed[media], context, field=field)
    return context.media.part(written, media, origin=context.origin, field=path_field)


def _written(
    part: Row, kind: str, listed: _Listed, context: RowContext, *, field: str
) -> tuple[object, str]:
    """What a media part says of its file, and the field that says it."""
    known = PATH_FIELDS[kind]
    if kind == "video" and isinstance(part.get("video"), list):
        listed_frames = {name: value for name, value in part.items() if name not in _NO_FILE}
        return listed_frames, f"{field}.video"
    # Tables with one column for every kind of part fill the others with null.
    given = {
        name: value for name, value in part.items() if value is not None and name not in _NO_FILE
    }
    for name in given:
        if name not in known:
            what = "this option of a single image or video is not read by this version."
            fix = "Remove it. Pixels and frames are set for the whole run, under data."
            raise context.error(what, field=f"{field}.{name}", fix=fix, code="field.unread")
    if not given and listed.taken < len(listed.files.written):
        listed.taken += 1
        return listed.files.written[listed.taken - 1]
    if len(given) != 1:
        what = f"one field that names the file expected, found {', '.join(given) or 'none'}."
        raise context.error(
            what, field=field, fix=f"Give one of {', '.join(known)}.", code="media.count"
        )
    [(name, value)] = given.items()
    path_field = f"{field}.{name}"
    if isinstance(value, dict) and name.endswith("_url"):
        value, path_field = value.get("url"), f"{path_field}.url"
    if not isinstance(value, str | bytes | dict):
        raise context.error(f"a path expected, found {kind_of(value)}.", field=path_field)
    return value, path_field
