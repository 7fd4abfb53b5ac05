"""The three shapes that a sample may have, and how each becomes messages."""

from __future__ import annotations

from typing import assert_never

from sightline.data.conversation import Conversation
from sightline.data.formats.base import (
    STRUCTURAL_TOKENS,
    UNREAD_ROW_FIELDS,
    RowContext,
    refuse_unread_fields,
)
from sightline.data.formats.detect import SampleFormat, detect_format
from sightline.data.formats.media import MediaFolder
from sightline.data.formats.official import parse_official
from sightline.data.formats.openai import parse_openai
from sightline.data.formats.sharegpt import ShareGptShape, guess_shape, parse_sharegpt

__all__ = [
    "STRUCTURAL_TOKENS",
    "MediaFolder",
    "RowContext",
    "SampleFormat",
    "ShareGptShape",
    "detect_format",
    "parse_row",
]


def parse_row(
    row: object,
    context: RowContext,
    *,
    declared: SampleFormat | None = None,
    shape: ShareGptShape | None = None,
) -> Conversation:
    """A row of a data file as a conversation.

    Args:
        row: What stands in the file.
        context: Where it stands, and what it is checked against.
        declared: The shape, where the user says it; None: told from the row.
        shape: The names that a ShareGPT row uses, where the user says them.

    Raises:
        DataError: The row is wrong; the message names file, line and field.
    """
    if shape is not None:
        declared = "sharegpt"
    if not isinstance(row, dict) or declared is None:
        declared = detect_format(row, origin=context.origin)
    # detect_format refuses everything else.
    assert isinstance(row, dict)
    refuse_unread_fields(row, UNREAD_ROW_FIELDS, context)
    if declared == "sharegpt":
        messages = parse_sharegpt(row, shape or guess_shape(row), context)
    elif declared == "official":
        messages = parse_official(row, context)
    elif declared == "openai":
        messages = parse_openai(row, context)
    else:
        assert_never(declared)
    return Conversation(messages=messages, origin=context.origin)
