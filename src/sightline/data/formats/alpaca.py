"""Alpaca as LLaMA-Factory reads it.

    {"instruction": "What?", "input": "In short.", "output": "…", "system": "…",
     "history": [["earlier question", "earlier answer"]], "images": ["a.png"]}

The question is the instruction with the input below it, on a line of its own. Media stand where
``<image>`` and ``<video>`` say, counted over the history and the question in order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sightline.data.conversation import Message
from sightline.data.formats.base import Row, RowContext, check_text, kind_of
from sightline.data.formats.placeholders import Turn, build_messages, media_list


@dataclass(frozen=True, kw_only=True, slots=True)
class AlpacaShape:
    """How the fields of the rows are called; None: the rows have none.

    Attributes:
        prompt: Field with the question.
        query: Field that is added below the question.
        response: Field with the answer.
        history: Field with earlier pairs of question and answer.
        system: Field with the system prompt.
        images: Field with the list of image files.
        videos: Field with the list of video files.
    """

    prompt: str | None = "instruction"
    query: str | None = "input"
    response: str | None = "output"
    history: str | None = "history"
    system: str | None = "system"
    images: str | None = "images"
    videos: str | None = "videos"


def parse_alpaca(row: Row, shape: AlpacaShape, context: RowContext) -> tuple[Message, ...]:
    """The messages of a row of this shape.

    Raises:
        DataError: The row is wrong; the message names the field.
    """
    turns: list[Turn] = []
    system = _optional(row, shape.system, context)
    if system and shape.system is not None:
        turns.append(_turn("system", system, shape.system))
    turns.extend(_history(row, shape.history, context))
    turns.append(_question(row, shape, context))
    if shape.response is None:
        raise context.error(
            "no field is declared for the answer.", fix="Name it with columns.response."
        )
    answer = check_text(row.get(shape.response), context, field=shape.response)
    turns.append(_turn("assistant", answer, shape.response))
    media = (
        media_list(row, "image", shape.images, context),
        media_list(row, "video", shape.videos, context),
    )
    return build_messages(turns, media, context)


def _question(row: Row, shape: AlpacaShape, context: RowContext) -> Turn:
    pieces = [
        (field, text)
        for field in (shape.prompt, shape.query)
        if (text := _optional(row, field, context))
    ]
    field = pieces[0][0] if pieces else shape.prompt
    return _turn("user", "\n".join(text for _, text in pieces), field or "instruction")


def _history(row: Row, name: str | None, context: RowContext) -> Iterator[Turn]:
    pairs = row.get(name) if name is not None else None
    if name is None or pairs is None:
        return
    if not isinstance(pairs, list):
        what = f"a list of [question, answer] pairs expected, found {kind_of(pairs)}."
        raise context.error(what, field=name)
    for index, pair in enumerate(pairs):
        field = f"{name}[{index}]"
        if not isinstance(pair, list) or len(pair) != 2:
            found = f"a list of {len(pair)}" if isinstance(pair, list) else kind_of(pair)
            raise context.error(f"[question, answer] expected, found {found}.", field=field)
        for place, (role, text) in enumerate(zip(("user", "assistant"), pair, strict=True)):
            checked = check_text(text, context, field=f"{field}[{place}]")
            yield _turn(role, checked, f"{field}[{place}]")


def _turn(role: str, text: str, field: str) -> Turn:
    assert role in ("system", "user", "assistant")
    return Turn(role=role, text=text, field=field, text_field=field)


def _optional(row: Row, name: str | None, context: RowContext) -> str:
    value = row.get(name) if name is not None else None
    return "" if value is None or name is None else check_text(value, context, field=name)
