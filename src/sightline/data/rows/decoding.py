"""JSON that may be broken: one decoder, and its faults in the words of the file."""

from __future__ import annotations

import json
from pathlib import Path

from sightline.data.conversation import Origin
from sightline.errors import DataError

_NUM_CHARS_AROUND = 30
_MAX_DIGITS = 300


def _integer(text: str) -> int | float:
    # Python refuses to read numbers of thousands of digits; as infinity they are refused by the
    # field that holds them.
    return int(text) if len(text) <= _MAX_DIGITS else float("inf")


DECODER = json.JSONDecoder(parse_int=_integer)


def unescaped(raw: bytes) -> str:
    """The text of bytes; what is not UTF-8 becomes half characters that `bad_byte` finds."""
    return raw.decode("utf-8", errors="surrogateescape")


def bad_byte(text: str, origin: Origin) -> DataError | None:
    """The fault of a text that was not UTF-8, by its first bad byte."""
    if text.isascii():
        return None
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        if not 0xDC80 <= code <= 0xDCFF:
            return None
        line = None if origin.line is None else origin.line + text.count("\n", 0, error.start)
        return DataError(
            f"byte 0x{code - 0xDC00:02x} is not UTF-8.",
            file=origin.file,
            line=line,
            fix="Save the file as UTF-8.",
            code="text.encoding",
        )
    return None


def broken(error: json.JSONDecodeError, path: Path, line: int, fix: str) -> DataError:
    """A fault of syntax, with what stands around it."""
    begin = max(error.pos - _NUM_CHARS_AROUND, error.doc.rfind("\n", 0, error.pos) + 1)
    around = error.doc[begin : error.pos + _NUM_CHARS_AROUND].split("\n")[0].strip()
    around = around.encode("utf-8", errors="replace").decode()
    reason = error.msg[0].lower() + error.msg[1:]
    near = f"near {around!r}" if around else "at the end of the line"
    what = f"broken JSON in column {error.colno}: {reason}, {near}."
    return DataError(what, file=path, line=line, fix=fix, code="json.broken")
