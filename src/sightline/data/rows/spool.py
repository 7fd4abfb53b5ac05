"""Sources that are read once from end to end, kept as JSON Lines from which rows are read again.

COCO, YOLO and Pascal VOC have no rows of their own, and a stream of the hub has no way back.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from sightline.data.conversation import Origin
from sightline.data.rows.base import Chunk, RawRow, digest_of
from sightline.data.rows.jsonl import JsonLines
from sightline.data.rows.tables import without_nulls
from sightline.errors import DataError
from sightline.records import writing

_BYTES_MARK = "__base64__"


class SpooledRows:
    """Rows that a function makes, kept in a file.

    Args:
        name: What messages call the source.
        folder: Where the file is kept.
        identity: What tells the source from others that keep their rows in the same folder.
        stamp: Changes when the source changes.
        make: The rows. ``fault`` says that one is wrong; ``place``, ``file`` and ``line`` say where
            it stands.
    """

    def __init__(
        self,
        name: Path,
        folder: Path,
        identity: str,
        stamp: Callable[[], str],
        make: Callable[[], Iterator[dict[str, Any]]],
    ) -> None:
        self._name = name
        self._folder = folder
        self._key = f"spool-{digest_of(identity.encode('utf-8', 'surrogateescape'))}"
        self._stamp = stamp
        self._make = make
        self._stamp_known: str | None = None

    @property
    def file(self) -> Path:
        """The name of the source."""
        return self._name

    def stamp(self) -> str:
        """The source's stamp, asked for once."""
        if self._stamp_known is None:
            self._stamp_known = self._stamp()
        return self._stamp_known

    def chunks(self) -> Iterator[Chunk]:
        """Chunks of the kept rows, which are made anew where the source changed."""
        yield from JsonLines(self._kept()).chunks()

    def read(self, chunk: Chunk) -> Iterator[RawRow]:
        """The rows of a chunk."""
        for raw in JsonLines(self._kept()).read(chunk):
            yield self._placed(raw)

    def row(self, origin: Origin, offset: int, num_bytes: int) -> RawRow:
        """One row again."""
        kept = self._kept()
        line = Origin(file=kept, line=1, index=origin.index)
        return self._placed(JsonLines(kept).row(line, offset, num_bytes))

    def _kept(self) -> Path:
        """The kept file, which is made where it is not there."""
        kept = self._folder / f"{self._key}-{digest_of(self.stamp().encode())}.jsonl"
        if not kept.is_file():
            self._write(kept)
        return kept

    def _write(self, kept: Path) -> None:
        beside = kept.with_suffix(f".{os.getpid()}.part")
        with writing(kept):
            kept.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._fill(beside)
                beside.replace(kept)
            finally:
                beside.unlink(missing_ok=True)
            for old in self._folder.glob(f"{self._key}-*.jsonl"):
                if old != kept:
                    old.unlink(missing_ok=True)

    def _fill(self, path: Path) -> None:
        num_rows = 0
        with path.open("w", encoding="utf-8", errors="surrogateescape") as file:
            for row in self._make():
                file.write(json.dumps(row, default=_bytes_as_text) + "\n")
                num_rows += 1
        if num_rows == 0:
            raise DataError(
                "the source holds no sample.",
                file=self._name,
                fix="Check its path, its subset and its split.",
                code="source.empty",
            )

    def _placed(self, raw: RawRow) -> RawRow:
        """The row with the place of the source instead of the kept file's."""
        value = raw.value
        if not isinstance(value, dict):
            return raw
        file = value.pop("file", None)
        line, place = value.pop("line", None), value.pop("place", None)
        origin = Origin(
            file=self._name if file is None else Path(file),
            line=1 if file is not None and line is None else line,
            index=raw.origin.index,
            place=place,
        )
        if set(value) == {"row"}:
            origin = Origin(file=self._name, line=None, index=raw.origin.index)
            return replace(raw, origin=origin, value=without_nulls(_with_bytes(value["row"])))
        fault = value.pop("fault", None)
        if fault is not None:
            told = origin.error(fault, code="annotation.wrong")
            return replace(raw, origin=origin, value=None, fault=told)
        return replace(raw, origin=origin, value=_with_bytes(value))


def _bytes_as_text(value: object) -> object:
    if isinstance(value, bytes):
        return {_BYTES_MARK: base64.b64encode(value).decode("ascii")}
    return str(value)


def _with_bytes(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {_BYTES_MARK}:
            return base64.b64decode(value[_BYTES_MARK])
        return {key: _with_bytes(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_bytes(item) for item in value]
    return value
