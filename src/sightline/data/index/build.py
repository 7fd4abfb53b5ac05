"""The pass over a source: every row read once, measured, and written into the index.

A chunk of rows becomes one Arrow file, written beside and renamed. An interrupted pass finds the
files that are done; a source that changed keeps those of its chunks that did not.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from sightline.data.encode import Encoder, Measure
from sightline.data.index.pool import run_all
from sightline.data.index.schema import (
    SCHEMA,
    Entry,
    bad_entry,
    good_entry,
    record_batch,
    stamp_of_medium,
)
from sightline.data.rows import Chunk, RawRow
from sightline.data.sources import Parsed, SourceReader
from sightline.errors import DataError, RunError
from sightline.records import atomic_file, read_json, write_json, writing

_NUM_TOGETHER = 256
_MAX_INLINE_BYTES = 64 * 1024 * 1024
OnRows = Callable[[int], None]
CheckMedia = Callable[[Measure], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexedFile:
    """The index of one file of a source.

    Attributes:
        reader: Reads its rows again.
        folder: Where the Arrow files are.
        names: Names of the Arrow files, in the order of the rows.
        num_rows: Samples in all of them.
        num_read: Samples that were read for it this time.
    """

    reader: SourceReader
    folder: Path
    names: tuple[str, ...]
    num_rows: int
    num_read: int

    def tables(self) -> Iterator[pa.Table]:
        """The Arrow files, each mapped when it is asked for."""
        for name in self.names:
            yield mapped(self.folder / name)


def mapped(path: Path) -> pa.Table:
    """An Arrow file as a table whose columns stay on disk."""
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def build_index(
    reader: SourceReader,
    encoder: Encoder,
    folder: Path,
    *,
    num_processes: int,
    on_rows: OnRows | None = None,
    check_media: CheckMedia | None = None,
) -> IndexedFile:
    """The index of a file of a source, made or completed.

    Args:
        reader: Reads its rows.
        encoder: The run's encoder.
        folder: Where the index is kept. It belongs to this reader and this encoder alone.
        num_processes: Processes that read.
        on_rows: Called with the number of samples of each chunk that is done.
        check_media: Called with every sample that can be used; what it raises makes it a bad one.

    Raises:
        DataError: The source is missing, empty or of another kind.
        RunError: The folder cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    state = _State(reader=reader, encoder=encoder, folder=folder, check_media=check_media)
    stamp = reader.rows.stamp()
    names: list[str] = []
    num_rows = num_read = 0
    known = _known_chunks(folder, stamp)
    found = reader.rows.chunks() if known is None else iter(known)
    tasks = (_Task(chunk=chunk, name=_name(chunk)) for chunk in found)
    chunks: list[Chunk] = []
    for task, (rows, read) in run_all(_index_chunk, state, tasks, num_processes=num_processes):
        names.append(task.name)
        chunks.append(task.chunk)
        num_rows += rows
        num_read += read
        if on_rows is not None:
            on_rows(rows)
    if known is None:
        _write_manifest(folder, stamp, chunks)
    _remove_others(folder, names)
    return IndexedFile(
        reader=reader, folder=folder, names=tuple(names), num_rows=num_rows, num_read=num_read
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _State:
    reader: SourceReader
    encoder: Encoder
    folder: Path
    check_media: CheckMedia | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Task:
    chunk: Chunk
    name: str


def _index_chunk(state: _State, task: _Task) -> tuple[int, int]:
    """Samples of a chunk, and how many of them were read now."""
    path = state.folder / task.name
    if path.is_file():
        try:
            table = mapped(path)
        except (OSError, pa.ArrowInvalid):
            # Cut by a full disk or a broken one: made anew.
            table = None
        if table is not None and table.schema.equals(SCHEMA) and not _media_changed(table):
            return table.num_rows, 0
    entries = list(_measured(state, task.chunk))
    batch = record_batch(entries)
    with atomic_file(path) as beside, pa.ipc.new_file(str(beside), SCHEMA) as writer:
        writer.write_batch(batch)
    return len(entries), len(entries)


@dataclass(kw_only=True, slots=True)
class _Held:
    raw: RawRow
    parsed: Parsed
    format_name: str | None


def _measured(state: _State, chunk: Chunk) -> Iterator[Entry]:
    """The rows of a chunk, measured some hundred at a time."""
    held: list[_Held] = []
    for raw in state.reader.rows.read(chunk):
        name = state.reader.format_of(raw)
        held.extend(
            _Held(raw=raw, parsed=parsed, format_name=name)
            for parsed in state.reader.parse(raw, name)
        )
        if len(held) >= _NUM_TOGETHER or _num_inline_bytes(held) > _MAX_INLINE_BYTES:
            yield from _entries(state, held)
            held = []
    yield from _entries(state, held)


def _num_inline_bytes(held: list[_Held]) -> int:
    """Bytes of media that stand in the rows of a table."""
    if not held or held[-1].raw.num_bytes:
        return 0
    return sum(
        len(part.content or b"")
        for item in held
        if item.parsed.conversation is not None
        for part in (*item.parsed.conversation.images(), *item.parsed.conversation.videos())
    )


def _entries(state: _State, held: list[_Held]) -> Iterator[Entry]:
    file = state.reader.rows.file
    conversations = [
        item.parsed.conversation for item in held if item.parsed.conversation is not None
    ]
    measures = iter(state.encoder.measure_all(conversations))
    for item in held:
        outcome: Measure | DataError | None = item.parsed.fault
        if outcome is None:
            outcome = _checked(next(measures), state.check_media)
        if isinstance(outcome, DataError):
            yield bad_entry(
                outcome,
                origin=item.parsed.origin,
                file=file,
                offset=item.raw.offset,
                num_bytes=item.raw.num_bytes,
                format_name=item.format_name,
            )
        else:
            yield good_entry(
                outcome,
                file=file,
                offset=item.raw.offset,
                num_bytes=item.raw.num_bytes,
                format_name=item.format_name,
            )


def _checked(outcome: Measure | DataError, check_media: CheckMedia | None) -> Measure | DataError:
    if check_media is None or isinstance(outcome, DataError):
        return outcome
    try:
        check_media(outcome)
    except DataError as fault:
        return fault
    return outcome


def _media_changed(table: pa.Table) -> bool:
    """Whether a media file of the chunk is another one now, or one was missing or broken."""
    codes = table.column("code").unique().to_pylist()
    if any(code is not None and code.startswith("media.") for code in codes):
        return True
    media = table.column("media").combine_chunks().flatten()
    paths, sizes = media.field("path").to_pylist(), media.field("num_bytes").to_pylist()
    times = media.field("mtime_ns").to_pylist()
    return any(
        size is not None and stamp_of_medium(path) != (size, time)
        for path, size, time in zip(paths, sizes, times, strict=True)
    )


def _name(chunk: Chunk) -> str:
    """The name of a chunk's file, the same only for the same rows in the same place."""
    told = f"{chunk.offset} {chunk.size} {chunk.first_line} {chunk.first_index} {chunk.digest}"
    digest = hashlib.blake2b(told.encode(), digest_size=8).hexdigest()
    return f"{chunk.first_index:010d}-{digest}.arrow"


def _known_chunks(folder: Path, stamp: str) -> list[Chunk] | None:
    """The chunks of a whole index of this very source; None where it has to be read again."""
    path = folder / "index.json"
    if not path.is_file():
        return None
    try:
        record = read_json(path)
        same = isinstance(record, dict) and record.get("stamp") == stamp
        return [Chunk(**chunk) for chunk in record["chunks"]] if same else None
    except (RunError, KeyError, TypeError):
        # Somebody else's file, or a broken one: the index is made anew.
        return None


def _write_manifest(folder: Path, stamp: str, chunks: list[Chunk]) -> None:
    rows = [dataclasses.asdict(chunk) for chunk in chunks]
    write_json(folder / "index.json", {"schema": 1, "stamp": stamp, "chunks": rows})


def _remove_others(folder: Path, names: list[str]) -> None:
    """Files of chunks that the source does not have any more."""
    kept = set(names)
    for path in folder.glob("*.arrow"):
        if path.name not in kept:
            path.unlink(missing_ok=True)
