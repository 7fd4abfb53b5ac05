"""JSON Lines: one sample a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
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

# A line beyond this is no sample, and would not fit the memory of the machines that train.
_MAX_LINE_NUM_BYTES = 256 * 1024 * 1024
_FIX = "Each line of a .jsonl file is one whole sample; a list is a .json file."


class JsonLines(JsonFile):
    """A ``.jsonl`` file."""

    def chunks(self) -> Iterator[Chunk]:
        """Whole lines, about half a MiB of them at a time."""
        stamp_of(self._path)
        offset, line, index = 0, 1, 0
        try:
            with self._path.open("rb") as file:
                while content := file.read(CHUNK_NUM_BYTES):
                    content += self._rest_of_line(file, line + content.count(b"\n"))
                    num_rows = sum(1 for text in content.split(b"\n") if text.strip())
                    yield Chunk(
                        offset=offset,
                        size=len(content),
                        first_line=line,
                        first_index=index,
                        num_rows=num_rows,
                        digest=digest_of(content),
                    )
                    offset += len(content)
                    line += content.count(b"\n")
                    index += num_rows
        except OSError as error:
            raise self._unreadable(error) from error
        if index == 0:
            raise self._empty()

    def read(self, chunk: Chunk) -> Iterator[RawRow]:
        """The samples of the lines of a chunk."""
        with self._path.open("rb") as file:
            file.seek(chunk.offset)
            content = file.read(chunk.size)
        offset, index = chunk.offset, chunk.first_index
        for number, raw in enumerate(content.split(b"\n")):
            if raw.strip():
                origin = Origin(file=self._path, line=chunk.first_line + number, index=index)
                yield self._row(raw, origin, offset)
                index += 1
            offset += len(raw) + 1

    def row(self, origin: Origin, offset: int, num_bytes: int) -> RawRow:
        """One line again."""
        with self._path.open("rb") as file:
            file.seek(offset)
            return self._row(file.read(num_bytes), origin, offset)

    def _rest_of_line(self, file: BinaryIO, line: int) -> bytes:
        rest = file.readline(_MAX_LINE_NUM_BYTES)
        if len(rest) == _MAX_LINE_NUM_BYTES and not rest.endswith(b"\n"):
            raise DataError(
                f"the line is longer than {_MAX_LINE_NUM_BYTES} bytes.",
                file=self._path,
                line=line,
                fix=_FIX,
            )
        return rest

    def _row(self, raw: bytes, origin: Origin, offset: int) -> RawRow:
        text = unescaped(raw.removeprefix(BYTE_ORDER_MARK) if offset == 0 else raw)
        value, fault = None, bad_byte(text, origin)
        if fault is None:
            try:
                value = DECODER.decode(text)
            except json.JSONDecodeError as error:
                fault = broken(error, self._path, origin.line or 0, _FIX)
            except RecursionError:
                fault = origin.error("nested too deep.", code="json.broken")
        return RawRow(origin=origin, offset=offset, num_bytes=len(raw), value=value, fault=fault)
