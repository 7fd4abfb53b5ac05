"""Which of the three shapes a row has.

| the row has | shape |
|---|---|
| ``conversations`` and ``image`` or ``video`` | official |
| ``conversations`` and anything else | sharegpt |
| ``messages`` with a list of content parts | openai |
| ``messages`` and ``images`` or ``videos``, or ``<image>`` or ``<video>`` in its text | sharegpt |
| ``messages`` with nothing but text | openai |
"""

from __future__ import annotations

from typing import Literal

from sightline.data.conversation import Origin
from sightline.data.formats.base import Row, kind_of
from sightline.errors import DataError

SampleFormat = Literal["official", "sharegpt", "openai"]

KNOWN = "Known: conversations (official, ShareGPT) and messages (ShareGPT, OpenAI)."


def detect_format(row: object, *, origin: Origin | None = None) -> SampleFormat:
    """The shape of a row.

    Args:
        row: What stands in the data file.
        origin: Where it stands, for the message.

    Raises:
        DataError: It has none of the three shapes, or the marks of two.
    """
    if not isinstance(row, dict):
        raise _unknown(f"a sample (an object) expected, found {kind_of(row)}.", row, origin)
    if "conversations" in row and "messages" in row:
        what = "the sample has both conversations and messages."
        raise _refusal(what, "Remove one, or declare the format.", origin)
    if "conversations" in row:
        return _conversations_format(row, origin)
    if "messages" in row:
        return _messages_format(row)
    fields = ", ".join(map(str, row)) or "none"
    raise _unknown(f"no known shape; the sample has the fields {fields}.", row, origin)


def _conversations_format(row: Row, origin: Origin | None) -> SampleFormat:
    single = [name for name in ("image", "video") if name in row]
    several = [name for name in ("images", "videos") if name in row]
    if single and several:
        both = f"{single[0]} (official shape) and {several[0]} (ShareGPT shape)"
        fix = "Keep the one that the placeholders stand for, or declare the format."
        raise _refusal(f"the sample has both {both}.", fix, origin)
    return "official" if single else "sharegpt"


def _messages_format(row: Row) -> SampleFormat:
    messages = row["messages"]
    turns = messages if isinstance(messages, list) else []
    contents = [turn.get("content") for turn in turns if isinstance(turn, dict)]
    if any(isinstance(content, list) for content in contents):
        return "openai"
    if "images" in row or "videos" in row:
        return "sharegpt"
    texts = [content for content in contents if isinstance(content, str)]
    has_placeholder = any("<image>" in text or "<video>" in text for text in texts)
    return "sharegpt" if has_placeholder else "openai"


def _unknown(what: str, row: object, origin: Origin | None) -> DataError:
    fix = f"{KNOWN} Other names are declared with columns and tags."
    if isinstance(row, list):
        fix = "Packed rows are not read: write each sample on its own."
    elif isinstance(row, dict) and "instruction" in row:
        fix = f"This is the Alpaca shape, which this version does not read. {KNOWN}"
    return _refusal(what, fix, origin)


def _refusal(what: str, fix: str, origin: Origin | None) -> DataError:
    file, line = (None, None) if origin is None else (origin.file, origin.line)
    return DataError(what, file=file, line=line, fix=fix)
