"""What every kind of source offers: rows in chunks, and one row again by its place."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sightline.data.conversation import Origin
from sightline.errors import DataError

# Bytes of rows that one process reads at a time.
CHUNK_NUM_BYTES = 512 * 1024
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(kw_only=True, slots=True)
class RawRow:
    """A row before it is parsed.

    Attributes:
        origin: Where it stands.
        offset: Its first byte in the file, or its number in a table.
        num_bytes: Its length in bytes; 0 in a table.
        value: What stands there; None where ``fault`` is set.
        fault: Why it cannot be read.
    """

    origin: Origin
    offset: int
    num_bytes: int
    value: object = None
    fault: DataError | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """Neighbouring rows that one process reads at a time.

    Attributes:
        offset: First byte, or first row of a table.
        size: Bytes, or rows of a table.
        first_line: Line of the first byte, 1-based; 0 in a table.
        first_index: Index of the first row.
        num_rows: Rows in it.
        digest: Changes when the content changes.
        fault: Why it cannot be read, where it is the rest of a file behind a fault of syntax; it
            counts as one row.
    """

    offset: int
    size: int
    first_line: int
    first_index: int
    num_rows: int
    digest: str
    fault: str | None = None


class RowSource(Protocol):
    """A file, folder or table of rows."""

    @property
    def file(self) -> Path:
        """The file, or the name of the table, as messages show it."""
        ...

    def stamp(self) -> str:
        """Changes when the source changes; the content is not read for it.

        Raises:
            DataError: The source is not there.
        """
        ...

    def chunks(self) -> Iterator[Chunk]:
        """The chunks in order; reads the source once from its beginning.

        Raises:
            DataError: The source is missing, unreadable, empty or of another kind.
        """
        ...

    def read(self, chunk: Chunk) -> Iterator[RawRow]:
        """The rows of a chunk; a row that cannot be read has a fault."""
        ...

    def row(self, origin: Origin, offset: int, num_bytes: int) -> RawRow:
        """One row again, by the place at which it was found."""
        ...


class JsonFile:
    """What both kinds of JSON files share.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def file(self) -> Path:
        """The file."""
        return self._path

    def stamp(self) -> str:
        """Size and time of the file."""
        return stamp_of(self._path)

    def _unreadable(self, error: OSError) -> DataError:
        what = f"the data file cannot be read: {error.strerror}."
        return DataError(what, file=self._path, fix="Check the path of the data file.")

    def _empty(self) -> DataError:
        what = "the file holds no sample."
        return DataError(what, file=self._path, fix="Check the path.", code="source.empty")


def digest_of(content: bytes) -> str:
    """A short fingerprint of bytes."""
    return hashlib.blake2b(content, digest_size=12).hexdigest()


def stamp_of(path: Path) -> str:
    """Size and time of a file.

    Raises:
        DataError: It is not there.
    """
    try:
        status = path.stat()
    except OSError as error:
        what = f"the data file cannot be read: {error.strerror}."
        raise DataError(
            what, file=path, fix="Check the path of the data file.", code="source.missing"
        ) from error
    return f"{status.st_size}-{status.st_mtime_ns}"
