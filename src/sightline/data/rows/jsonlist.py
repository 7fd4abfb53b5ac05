"""A ``.json`` file that is a list of samples, walked through a window of the file.

The line of each sample is exact, and the memory it takes is that of a few samples, however long the
list is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from sightline.data.conversation import Origin
from sightline.data.rows.base import (
    BYTE_ORDER_MARK,
    CHUNK_NUM_BYTES,
    Chunk,
    JsonFile,
    RawRow,
    digest_of,
    stamp_of,
)
from sightline.data.rows.decoding import DECODER, bad_byte, broken, unescaped
from sightline.errors import DataError

_WINDOW_NUM_BYTES = 256 * 1024
_MAX_ROW_NUM_BYTES = 256 * 1024 * 1024
# An error nearer to the end of the window may be the window's.
_NUM_CHARS_UNSURE = 64
_SPACE = re.compile(r"[ \t\r\n]*")
_FIX = "Mend the file there."


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """A sample of the list, or why the list cannot be read on."""

    line: int
    offset: int
    num_bytes: int
    value: object = None
    text: str = ""
    fault: DataError | None = None


class JsonList(JsonFile):
    """A ``.json`` file."""

    def chunks(self) -> Iterator[Chunk]:
        """Whole samples, about half a MiB of them at a time."""
        stamp_of(self._path)
        held: list[_Found] = []
        index = 0
        try:
            with self._path.open("rb") as file:
                for found in self._walk(file):
                    if found.fault is not None:
                        if held:
                            yield self._chunk(held, index)
                            index += len(held)
                            held = []
                        yield self._unread(found, index)
                        return
                    held.append(found)
                    if found.offset + found.num_bytes - held[0].offset >= CHUNK_NUM_BYTES:
                        yield self._chunk(held, index)
                        index += len(held)
                        held = []
        except OSError as error:
            raise self._unreadable(error) from error
        if held:
            yield self._chunk(held, index)
        elif index == 0:
            raise self._empty()

    def read(self, chunk: Chunk) -> Iterator[RawRow]:
        """The samples of a chunk."""
        if chunk.fault is not None:
            origin = Origin(file=self._path, line=chunk.first_line, index=chunk.first_index)
            fault = DataError(
                chunk.fault, file=self._path, line=origin.line, fix=_FIX, code="json.broken"
            )
            yield RawRow(origin=origin, offset=chunk.offset, num_bytes=chunk.size, fault=fault)
            return
        with self._path.open("rb") as file:
            file.seek(chunk.offset)
            walked = self._samples(_Window(file, chunk.offset, chunk.first_line, chunk.size))
            for number, found in enumerate(walked):
                if number >= chunk.num_rows:
                    return
                origin = Origin(file=self._path, line=found.line, index=chunk.first_index + number)
                yield self._raw(found, origin)

    def row(self, origin: Origin, offset: int, num_bytes: int) -> RawRow:
        """One sample again."""
        with self._path.open("rb") as file:
            file.seek(offset)
            window = _Window(file, offset, origin.line or 1, num_bytes)
            found = next(self._samples(window), None)
        if found is None:
            fault = origin.error("the sample is not there any more.", code="source.changed")
            return RawRow(origin=origin, offset=offset, num_bytes=num_bytes, fault=fault)
        return self._raw(found, origin)

    def _raw(self, found: _Found, origin: Origin) -> RawRow:
        fault = found.fault or bad_byte(found.text, origin)
        return RawRow(
            origin=origin,
            offset=found.offset,
            num_bytes=found.num_bytes,
            value=None if fault else found.value,
            fault=fault,
        )

    def _chunk(self, held: list[_Found], first_index: int) -> Chunk:
        offset = held[0].offset
        size = held[-1].offset + held[-1].num_bytes - offset
        with self._path.open("rb") as file:
            file.seek(offset)
            digest = digest_of(file.read(size))
        return Chunk(
            offset=offset,
            size=size,
            first_line=held[0].line,
            first_index=first_index,
            num_rows=len(held),
            digest=digest,
        )

    def _unread(self, found: _Found, index: int) -> Chunk:
        """The rest of the file, behind a fault of syntax."""
        assert found.fault is not None
        return Chunk(
            offset=found.offset,
            size=found.num_bytes,
            first_line=found.fault.line or found.line,
            first_index=index,
            num_rows=1,
            digest=digest_of(found.fault.what.encode("utf-8", "replace")),
            fault=found.fault.what,
        )

    def _walk(self, file: BinaryIO) -> Iterator[_Found]:
        """All samples of the file."""
        mark = BYTE_ORDER_MARK if file.read(3) == BYTE_ORDER_MARK else b""
        file.seek(len(mark))
        window = _Window(file, len(mark), 1, None)
        window.skip_space()
        if window.at_end():
            return
        self._refuse_other_than_list(window)
        window.take(1)
        window.skip_space()
        if not window.starts("]"):
            yield from self._samples(window)
            if window.failed:
                return
        window.take(1)
        window.skip_space()
        if not window.at_end():
            error = window.error("text after the end of the list")
            yield self._rest(window, broken(error, self._path, window.line, _FIX))

    def _samples(self, window: _Window) -> Iterator[_Found]:
        """Samples up to the end of the list, or of the window."""
        while True:
            window.skip_space()
            try:
                value, text, line, offset = window.decode()
            except json.JSONDecodeError as error:
                line = window.line_of(error.pos)
                yield self._rest(window, broken(error, self._path, line, _FIX))
                return
            except RecursionError:
                fault = DataError(
                    "nested too deep.", file=self._path, line=window.line, code="json.broken"
                )
                yield self._rest(window, fault)
                return
            num_bytes = window.offset - offset
            yield _Found(line=line, offset=offset, num_bytes=num_bytes, value=value, text=text)
            window.skip_space()
            if window.starts(","):
                window.take(1)
            elif window.starts("]") or (window.limit is not None and window.at_end()):
                return
            else:
                message = "Expecting ',' or ']' after a sample"
                error = window.error(message)
                yield self._rest(window, broken(error, self._path, window.line, _FIX))
                return

    def _rest(self, window: _Window, fault: DataError) -> _Found:
        """What stands behind a fault of syntax: where the next sample begins is unknown."""
        window.failed = True
        size = self._path.stat().st_size - window.offset
        what = (
            f"{fault.what} The rest of the file, {size} bytes from line {window.line}, is not read."
        )
        told = DataError(what, file=fault.file, line=fault.line, fix=fault.fix, code=fault.code)
        return _Found(line=window.line, offset=window.offset, num_bytes=max(size, 1), fault=told)

    def _refuse_other_than_list(self, window: _Window) -> None:
        if window.starts("["):
            return
        what = "a .json data file is a list of samples, and this one does not begin with [."
        fix = "Name the file .jsonl if each line is a sample."
        if window.starts("{") and '"file_name"' in window.text:
            fix = "This looks like a dataset_info.json: say which of its data sets with name."
        raise DataError(what, file=self._path, line=window.line, fix=fix, code="source.kind")


class _Window:
    """A part of a file as text, that moves on as its text is taken.

    Args:
        file: The file, at ``offset``.
        offset: Byte of the file at which the text begins.
        line: Line of the file at which the text begins.
        limit: Bytes to read at most; None for the whole file.
    """

    def __init__(self, file: BinaryIO, offset: int, line: int, limit: int | None) -> None:
        self._file = file
        self._unread = limit
        self._pending = b""
        self._is_all = False
        self._start = 0
        self._text = ""
        # Characters of the line at hand that the window does not hold any more.
        self._num_gone = 0
        self.limit = limit
        self.offset = offset
        self.line = line
        self.failed = False

    @property
    def text(self) -> str:
        """What is not taken yet, as far as it is read."""
        return self._text[self._start :]

    def error(self, message: str) -> json.JSONDecodeError:
        """A fault of syntax that stands next. What was taken before it gives its column."""
        return self._placed(json.JSONDecodeError(message, self._text, self._start))

    def line_of(self, position: int) -> int:
        """Line of the file for a position of the window's text."""
        return self.line + self._text.count("\n", self._start, position)

    def starts(self, text: str) -> bool:
        """Whether the text goes on with this."""
        return not self.at_end() and self._text.startswith(text, self._start)

    def at_end(self) -> bool:
        """Whether nothing is left."""
        while self._start >= len(self._text) and not self._is_all:
            self._read_more(_WINDOW_NUM_BYTES)
        return self._start >= len(self._text)

    def take(self, num_chars: int) -> str:
        """Move on."""
        taken = self._text[self._start : self._start + num_chars]
        self._start += num_chars
        num_bytes = len(taken) if taken.isascii() else len(taken.encode("utf-8", "surrogateescape"))
        self.offset += num_bytes
        self.line += taken.count("\n")
        return taken

    def skip_space(self) -> None:
        """Move on to the next sign that is no white space."""
        while not self.at_end():
            found = _SPACE.match(self._text, self._start)
            assert found is not None
            self.take(found.end() - self._start)
            if self._start < len(self._text):
                return

    def decode(self) -> tuple[object, str, int, int]:
        """The JSON value that stands next, its text, and the line and byte at which it begins."""
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._start)
            except json.JSONDecodeError as error:
                if self._is_all or not self._may_be_cut(error):
                    raise self._placed(error) from None
            else:
                # A number may go on behind the window: 1 of 1.5, or of 1e-5.
                if self._is_all or end + _NUM_CHARS_UNSURE < len(self._text):
                    line, offset = self.line, self.offset
                    return value, self.take(end - self._start), line, offset
            self._read_more(max(_WINDOW_NUM_BYTES, len(self._text) - self._start))

    def _may_be_cut(self, error: json.JSONDecodeError) -> bool:
        if len(self._text) - self._start > _MAX_ROW_NUM_BYTES:
            return False
        # A string without an end is the window's; a control character in it would have come first.
        is_open = error.msg.startswith("Unterminated")
        return is_open or error.pos + _NUM_CHARS_UNSURE >= len(self._text)

    def _placed(self, error: json.JSONDecodeError) -> json.JSONDecodeError:
        """The error with its column in the file's line, of which the window may hold the end."""
        if "\n" not in self._text[: error.pos]:
            error.colno += self._num_gone
        return error

    def _read_more(self, num_bytes: int) -> None:
        if self._unread is not None:
            num_bytes = min(num_bytes, self._unread)
        raw = self._file.read(num_bytes)
        if self._unread is not None:
            self._unread -= len(raw)
        self._is_all = not raw or self._unread == 0
        raw = self._pending + raw
        cut = 0 if self._is_all else _cut_inside_character(raw)
        self._pending = raw[len(raw) - cut :]
        if not raw:
            return
        last_break = self._text.rfind("\n", 0, self._start)
        gone = self._start - last_break - 1
        self._num_gone = gone + (self._num_gone if last_break < 0 else 0)
        self._text = self._text[self._start :] + unescaped(raw[: len(raw) - cut])
        self._start = 0


def _cut_inside_character(raw: bytes) -> int:
    """How many bytes at the end begin a character that is not whole, 0 to 3."""
    for back in range(1, min(4, len(raw) + 1)):
        byte = raw[-back]
        if byte & 0xC0 == 0x80:
            continue
        length = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
        return back if length > back else 0
    return 0
