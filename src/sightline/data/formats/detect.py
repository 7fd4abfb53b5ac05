"""Which shape a row has, told from the names of its fields.

| the row has | shape |
|---|---|
| ``conversations`` and ``image`` or ``video`` | official |
| ``conversations`` and anything else | sharegpt |
| ``messages`` and ``objects``, or a turn with ``loss`` | swift |
| ``messages`` with a list of content parts | openai |
| ``messages`` and ``images`` or ``videos``, or ``<image>`` or ``<video>`` in its text | sharegpt |
| ``messages`` with nothing but text | openai |
| ``instruction`` and ``output`` | alpaca |
| ``query``, ``prompt``, ``question``, ``problem`` and an answer of ms-swift's names | swift |
"""

from __future__ import annotations

from sightline.config import SourceFormat
from sightline.data.conversation import Origin
from sightline.data.formats.base import Row, kind_of
from sightline.data.formats.swift import QUERY_FIELDS, RESPONSE_FIELDS
from sightline.errors import DataError

KNOWN = (
    "Known: conversations (official, ShareGPT), messages (ShareGPT, OpenAI, ms-swift), instruction "
    "and output (Alpaca), query and response (ms-swift)."
)


def detect_format(row: object, *, origin: Origin | None = None) -> SourceFormat:
    """The shape of a row.

    Args:
        row: What stands in the data file.
        origin: Where it stands, for the message.

    Raises:
        DataError: It has none of the shapes, or the marks of two.
    """
    if not isinstance(row, dict):
        raise _unknown(f"a sample (an object) expected, found {kind_of(row)}.", origin)
    if "conversations" in row and "messages" in row:
        what = "the sample has both conversations and messages."
        raise _refusal(what, "Remove one, or declare the format.", origin)
    if "conversations" in row:
        return _conversations_format(row, origin)
    if "messages" in row:
        return _messages_format(row)
    if "instruction" in row and "output" in row:
        return "alpaca"
    if any(name in row for name in QUERY_FIELDS) and any(name in row for name in RESPONSE_FIELDS):
        return "swift"
    fields = ", ".join(map(str, list(row)[:12])) or "none"
    raise _unknown(f"no known shape; the sample has the fields {fields}.", origin)


def _conversations_format(row: Row, origin: Origin | None) -> SourceFormat:
    single = [name for name in ("image", "video") if name in row]
    several = [name for name in ("images", "videos") if name in row]
    if single and several:
        both = f"{single[0]} (official shape) and {several[0]} (ShareGPT shape)"
        fix = "Keep the one that the placeholders stand for, or declare the format."
        raise _refusal(f"the sample has both {both}.", fix, origin)
    return "official" if single else "sharegpt"


def _messages_format(row: Row) -> SourceFormat:
    messages = row["messages"]
    turns = (
        [turn for turn in messages if isinstance(turn, dict)] if isinstance(messages, list) else []
    )
    if row.get("objects") or any("loss" in turn or "loss_scale" in turn for turn in turns):
        return "swift"
    contents = [turn.get("content") for turn in turns]
    if any(isinstance(content, list) for content in contents):
        return "openai"
    if "images" in row or "videos" in row:
        return "sharegpt"
    texts = [content for content in contents if isinstance(content, str)]
    has_placeholder = any("<image>" in text or "<video>" in text for text in texts)
    return "sharegpt" if has_placeholder else "openai"


def _unknown(what: str, origin: Origin | None) -> DataError:
    return _refusal(what, f"{KNOWN} Other names are declared with columns and tags.", origin)


def _refusal(what: str, fix: str, origin: Origin | None) -> DataError:
    if origin is None:
        return DataError(what, fix=fix, code="format.unknown")
    return origin.error(what, fix=fix, code="format.unknown")
