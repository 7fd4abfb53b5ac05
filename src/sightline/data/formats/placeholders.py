"""Turns whose text says ``<image>`` and ``<video>`` where the files of a list belong."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sightline.data.conversation import Message, Part, Role, TextPart
from sightline.data.formats.base import Row, RowContext, check_order
from sightline.data.formats.media import MediaKind

_PLACEHOLDER = re.compile("(<image>|<video>)")


@dataclass(kw_only=True, slots=True)
class Turn:
    """A turn before its placeholders are replaced.

    Attributes:
        role: Who speaks.
        text: The text, with its placeholders.
        field: Path of the turn.
        text_field: Path of the field that holds the text.
        is_trained: Whether the loss sees it.
    """

    role: Role
    text: str
    field: str
    text_field: str
    is_trained: bool = True


@dataclass(kw_only=True, slots=True)
class MediaList:
    """The files of one kind that a row lists.

    Attributes:
        kind: What they are.
        field: Name of the field that lists them; None where none is declared.
        written: Each file as the row has it, a path or more, with the path of its field.
    """

    kind: MediaKind
    field: str | None
    written: tuple[tuple[object, str], ...] = ()

    @property
    def placeholder(self) -> str:
        """The text that stands for one of them."""
        return f"<{self.kind}>"


def split_placeholders(text: str) -> list[str]:
    """The text cut at its placeholders, which stay in the list; nothing else is changed.

    >>> split_placeholders("<image>\\nLeft, and <image>?")
    ['<image>', '\\nLeft, and ', '<image>', '?']
    """
    return [piece for piece in _PLACEHOLDER.split(text) if piece]


def media_list(row: Row, kind: MediaKind, name: str | None, context: RowContext) -> MediaList:
    """The files that the field ``name`` of a row lists: one, or a list of them."""
    value = row.get(name) if name is not None else None
    if value is None or name is None:
        return MediaList(kind=kind, field=name)
    if not isinstance(value, list):
        return MediaList(kind=kind, field=name, written=((value, name),))
    written = tuple((item, f"{name}[{index}]") for index, item in enumerate(value))
    return MediaList(kind=kind, field=name, written=written)


def build_messages(
    turns: Sequence[Turn],
    media: Sequence[MediaList],
    context: RowContext,
    *,
    strip_text: bool = False,
    others: Mapping[str, Iterator[Part]] | None = None,
) -> tuple[Message, ...]:
    """Turns with every placeholder replaced by its file, checked.

    Args:
        turns: The turns, in order, their text checked.
        media: One list for images and one for videos. The k-th placeholder of a kind stands for
            the k-th file of that kind.
        context: Where the row stands.
        strip_text: Whether the text between placeholders of a user's turn loses the white space
            at its ends, and blank text goes away altogether.
        others: Further placeholders, in any turn, with the parts that they stand for in order.

    Raises:
        DataError: Counts, roles, order or text are wrong.
        MediaError: A file is not there.
    """
    for turn in turns:
        _refuse_placeholders_outside_user(turn, context)
    for files in media:
        _check_count(turns, files, context)
    parts_of = {files.placeholder: _resolved(files, context) for files in media}
    parts_of |= others or {}
    marks = _PLACEHOLDER if not others else re.compile(f"({'|'.join(map(re.escape, parts_of))})")
    messages: list[Message] = []
    for turn in turns:
        strip = strip_text and turn.role == "user"
        parts = tuple(_parts(turn.text, parts_of, marks, strip=strip))
        messages.append(
            Message(role=turn.role, parts=parts, field=turn.field, is_trained=turn.is_trained)
        )
    return check_order(messages, context)


def _parts(
    text: str, parts_of: Mapping[str, Iterator[Part]], marks: re.Pattern[str], *, strip: bool
) -> Iterator[Part]:
    for piece in marks.split(text):
        if not piece:
            continue
        if piece in parts_of:
            yield next(parts_of[piece])
        elif not strip:
            yield TextPart(text=piece)
        elif piece.strip():
            yield TextPart(text=piece.strip())


def _resolved(files: MediaList, context: RowContext) -> Iterator[Part]:
    for written, field in files.written:
        yield context.media.part(written, files.kind, origin=context.origin, field=field)


def _refuse_placeholders_outside_user(turn: Turn, context: RowContext) -> None:
    found = _PLACEHOLDER.search(turn.text)
    if found is None or turn.role == "user":
        return
    raise context.error(
        f"{found[0]} stands in the {turn.role}'s turn; images and videos belong to the user.",
        field=turn.text_field,
        fix="Move it to a user turn. If it is meant as text, use the OpenAI shape (messages).",
        code="media.role",
    )


def _check_count(turns: Sequence[Turn], files: MediaList, context: RowContext) -> None:
    mark, num_placeholders = files.placeholder, 0
    for turn in turns:
        num_placeholders += turn.text.count(mark)
    num_files = len(files.written)
    if num_placeholders == num_files:
        return
    if num_placeholders == 0:
        what = (
            f"{_counted(num_files, files.kind)} listed, 0 {files.placeholder} in the text: the "
            "model would see none of them."
        )
    else:
        what = (
            f"{num_placeholders} {files.placeholder} in the text, {num_files} "
            f"{'file' if num_files == 1 else 'files'} listed."
        )
    fix = f"Write one {files.placeholder} in a user's turn for each file, in the files' order."
    if files.field is None:
        fix = f"Name the field that lists the files with columns.{files.kind}s."
    field = files.field or turns[0].text_field
    raise context.error(what, field=field, fix=fix, code="media.count")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
