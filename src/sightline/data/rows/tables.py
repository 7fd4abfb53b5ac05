"""Parquet, Arrow, CSV and Hugging Face data sets, through the ``datasets`` library.

It memory-maps what it reads, so that one row of a million is as near as the first, and its cache is
the one that users have already. Images and videos stay encoded: nothing is decoded here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.config import Source
from sightline.data.conversation import Origin
from sightline.data.rows.base import Chunk, RawRow
from sightline.errors import DataError, SightlineError

if TYPE_CHECKING:
    from datasets import Dataset

_CHUNK_NUM_ROWS = 512
BUILDERS = {".parquet": "parquet", ".arrow": "arrow", ".csv": "csv"}
SAVED_MARKS = ("dataset_info.json", "state.json")


class TableRows:
    """The rows of a data set.

    Args:
        name: What messages call it.
        load: Loads the data set; called once in each process that reads it.
    """

    def __init__(self, name: Path, load: Callable[[], Dataset]) -> None:
        self._name = name
        self._load = load
        self._table: Any = None

    @property
    def file(self) -> Path:
        """The name of the data set."""
        return self._name

    def stamp(self) -> str:
        """The fingerprint that the library gives the data set."""
        return str(self._opened()._fingerprint)

    def chunks(self) -> Iterator[Chunk]:
        """Ranges of rows."""
        table = self._opened()
        num_rows = len(table)
        if num_rows == 0:
            raise DataError("the data set has no row.", file=self._name, code="source.empty")
        for start in range(0, num_rows, _CHUNK_NUM_ROWS):
            size = min(_CHUNK_NUM_ROWS, num_rows - start)
            yield Chunk(
                offset=start,
                size=size,
                first_line=0,
                first_index=start,
                num_rows=size,
                digest=f"{table._fingerprint}-{start}-{size}",
            )

    def read(self, chunk: Chunk) -> Iterator[RawRow]:
        """The rows of a range."""
        for number in range(chunk.offset, chunk.offset + chunk.size):
            # One at a time: a row may hold pictures, and a range of them many megabytes.
            yield self.row(Origin(file=self._name, line=None, index=number), number, 0)

    def row(self, origin: Origin, offset: int, num_bytes: int) -> RawRow:
        """One row."""
        table = self._opened()
        if offset >= len(table):
            fault = origin.error("the row is not there any more.", code="source.changed")
            return RawRow(origin=origin, offset=offset, num_bytes=0, fault=fault)
        [value] = table[offset : offset + 1].to_pylist()
        return RawRow(origin=origin, offset=offset, num_bytes=0, value=without_nulls(value))

    def _opened(self) -> Any:
        if self._table is None:
            self._table = self._load().with_format("arrow")
        return self._table

    def __getstate__(self) -> dict[str, Any]:
        # A process that reads the table opens it by itself.
        return {"_name": self._name, "_load": self._load, "_table": None}


class LoadTable:
    """Loads what a source names, with the errors of the library as one message.

    Args:
        source: The source.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    def __call__(self) -> Dataset:
        """The data set.

        Raises:
            DataError: It is not there, broken, or has no such split.
        """
        try:
            loaded = self._loaded()
        except SightlineError:
            raise
        except Exception as error:  # the library raises some thirty kinds, pyarrow's among them
            cause: BaseException = error
            while type(cause).__name__ == "DatasetGenerationError" and cause.__cause__ is not None:
                # It says only that something went wrong; what it was stands behind it.
                cause = cause.__cause__
            reason = str(cause).strip().splitlines()[0] if str(cause).strip() else ""
            what = f"the data set cannot be read: {type(cause).__name__}: {reason}"
            fix = "Check the file, or the name of the data set, its subset and split."
            raise DataError(what, file=self._source.title, fix=fix, code="source.broken") from error
        if isinstance(loaded, dict):
            return self._split_of(loaded)
        return loaded

    def _loaded(self) -> Any:
        from datasets import disable_progress_bars, load_dataset, load_from_disk

        disable_progress_bars()
        source = self._source
        if source.hub is not None:
            return load_dataset(
                source.hub, source.subset, split=source.split, revision=source.revision
            )
        path = Path(source.title)
        if path.is_dir() and is_saved(path):
            return load_from_disk(str(path))
        files = sorted(path.glob("*")) if path.is_dir() else [path]
        files = [file for file in files if file.suffix.lower() in BUILDERS]
        builder = BUILDERS[files[0].suffix.lower()]
        return load_dataset(builder, data_files=[str(file) for file in files], split="train")

    def _split_of(self, splits: dict[str, Any]) -> Dataset:
        wanted = self._source.split
        if wanted not in splits:
            what = f"there is no split {wanted!r}; there are {', '.join(splits) or 'none'}."
            raise DataError(what, file=self._source.title, fix="Set split.", code="source.missing")
        return splits[wanted]


def is_saved(folder: Path) -> bool:
    """Whether a folder was written by ``save_to_disk`` of ``datasets``."""
    return (folder / "dataset_dict.json").is_file() or all(
        (folder / mark).is_file() for mark in SAVED_MARKS
    )


def without_nulls(value: Any) -> Any:
    """The value without keys that are null: a table has every key in every row."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value
