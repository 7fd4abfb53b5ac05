"""Lines of a file that another process appends to: each is read once, and a new file is noticed."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sightline.errors import RunError

# So many of the last bytes that were read are compared with the file before more is read of it:
# a file system may give a new file the number of the one that it replaced.
_NUM_COMPARED = 256
_CHUNK = 1 << 20
# Of a long file that is met for the first time: the objects of all its lines would be ten times it.
_MOST_BYTES = 8 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Growth:
    """What a look at the file found.

    Attributes:
        rows: Objects of the lines that are new.
        is_anew: Whether the file is not the one that was read before: `rows` are all of its own,
            and what was read earlier no longer stands in it.
        faults: What was wrong with lines that cannot be read; they are left out.
        has_more: Whether another look finds more at once.
    """

    rows: tuple[dict[str, Any], ...] = ()
    is_anew: bool = False
    faults: tuple[str, ...] = ()
    has_more: bool = False


class LineFollower:
    """A JSON Lines file as it grows.

    Only what was appended since the last look is read, and of much the first part. A last line
    without its end is left for a later look. A file that was replaced, or cut back when a run was
    resumed, is read anew.

    Args:
        path: The file; it need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._forget()

    def _forget(self) -> None:
        self._identity: tuple[int, int] | None = None
        self._offset = 0
        self._num_lines = 0
        self._last = b""

    def look(self) -> Growth:
        """What is new.

        Raises:
            RunError: The file is there and cannot be read.
        """
        try:
            with self._path.open("rb") as file:
                return self._read(file)
        except FileNotFoundError:
            was_there = self._identity is not None
            self._forget()
            return Growth(is_anew=was_there)
        except OSError as error:
            raise RunError(f"{self._path}: the file cannot be read: {error.strerror}.") from error

    def _read(self, file: BinaryIO) -> Growth:
        stat = os.fstat(file.fileno())
        identity = (stat.st_dev, stat.st_ino)
        was_there = self._identity is not None
        is_same = identity == self._identity
        if is_same:
            file.seek(self._offset - len(self._last))
            is_same = file.read(len(self._last)) == self._last
        if not is_same:
            self._forget()
            file.seek(0)
        self._identity = identity
        rows: list[dict[str, Any]] = []
        faults: list[str] = []
        for line in self._whole_lines(file):
            self._num_lines += 1
            try:
                rows.append(_row(line))
            except ValueError as error:
                faults.append(f"{self._path.name}:{self._num_lines}: the line is broken: {error}.")
        return Growth(
            rows=tuple(rows),
            is_anew=was_there and not is_same,
            faults=tuple(faults),
            has_more=file.tell() < stat.st_size,
        )

    def _whole_lines(self, file: BinaryIO) -> list[bytes]:
        """Lines from here on that have an end, as many as are read at once; remembers how far."""
        content = bytearray()
        while chunk := file.read(_CHUNK):
            content += chunk
            if len(content) >= _MOST_BYTES and b"\n" in content:
                break
        whole = bytes(content[: content.rfind(b"\n") + 1])
        self._offset += len(whole)
        self._last = (self._last + whole[-_NUM_COMPARED:])[-_NUM_COMPARED:]
        # Not splitlines: JSON keeps U+2028 and its like inside a text, and they end no line here.
        return whole.split(b"\n")[:-1]


def _row(line: bytes) -> dict[str, Any]:
    row = json.loads(line.decode("utf-8"))
    if not isinstance(row, dict) or not isinstance(row.get("step"), int):
        raise ValueError("it is no object with a whole number as step")
    return row
