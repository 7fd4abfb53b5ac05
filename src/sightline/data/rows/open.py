"""From what a source names to the rows that it has."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from sightline.config import Source, SourceFormat
from sightline.data.rows.annotations import coco_rows, voc_rows, yolo_rows
from sightline.data.rows.base import RowSource, digest_of, stamp_of
from sightline.data.rows.jsonl import JsonLines
from sightline.data.rows.jsonlist import JsonList
from sightline.data.rows.spool import SpooledRows
from sightline.data.rows.tables import BUILDERS, LoadTable, TableRows, is_saved
from sightline.errors import DataError, first_line

_JSON = {".json": JsonList, ".jsonl": JsonLines, ".ndjson": JsonLines}
_COCO_KEYS = re.compile(rb'"(annotations|categories|images|info|licenses)"\s*:')
_NUM_BYTES_SEEN = 4096
_FIX = "Known: .json, .jsonl, .parquet, .arrow, .csv, and folders of them."


def open_rows(source: Source, folder: Path) -> tuple[list[RowSource], SourceFormat | None]:
    """The files of a source as rows, and the format that its kind implies.

    Args:
        source: The source; one that names an entry of a declaration is replaced first, by
            ``sightline.interop.expand_sources``.
        folder: Where rows may be kept that the source cannot give again.

    Raises:
        DataError: It is not there, or of no known kind.
    """
    if source.hub is not None:
        return [_hub_rows(source, folder)], source.format
    path = Path(source.title)
    if not path.exists():
        what = "the data file cannot be read: No such file or directory."
        raise DataError(
            what, file=path, fix="Check the path of the data file.", code="source.missing"
        )
    kind = source.format if source.format in ("coco", "yolo", "voc") else _annotation_kind(path)
    if kind is not None and source.format in (None, kind):
        return [_annotated_rows(path, kind, source, folder)], kind
    files = _files(path)
    if not files:
        return [TableRows(path, LoadTable(source))], source.format
    return [_JSON[file.suffix.lower()](file) for file in files], source.format


def _files(path: Path) -> list[Path]:
    """The JSON files of a path; none where it is a table.

    Raises:
        DataError: It holds no data file, or files of several kinds.
    """
    if path.is_file():
        suffix = path.suffix.lower()
        if suffix in _JSON:
            return [path]
        if suffix in BUILDERS:
            return []
        what = f"the file ends in {path.suffix!r}; .json and .jsonl are read, and tables."
        raise DataError(what, file=path, fix=_FIX, code="source.kind")
    if is_saved(path):
        return []
    known = (*_JSON, *BUILDERS)
    files = [file for file in sorted(path.iterdir()) if file.suffix.lower() in known]
    suffixes = sorted({file.suffix.lower() for file in files})
    if not files:
        raise DataError("the folder holds no data file.", file=path, fix=_FIX, code="source.empty")
    if len(suffixes) > 1:
        what = f"the folder holds files of several kinds: {', '.join(suffixes)}."
        raise DataError(what, file=path, fix="Name one file, or keep one kind.", code="source.kind")
    return [] if suffixes[0] in BUILDERS else files


def _annotation_kind(path: Path) -> SourceFormat | None:
    """COCO, YOLO or VOC, where the path looks like it."""
    if path.is_dir():
        if (path / "Annotations").is_dir():
            return "voc"
        has_names = (path / "data.yaml").is_file() or (path / "data.yml").is_file()
        return "yolo" if has_names else None
    if path.suffix.lower() != ".json":
        return None
    try:
        with path.open("rb") as file:
            head = file.read(_NUM_BYTES_SEEN).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError:
        return None
    if not head.startswith(b"{"):
        return None
    return "coco" if _COCO_KEYS.match(head[1:].lstrip()) else None


def _annotated_rows(path: Path, kind: str, source: Source, folder: Path) -> SpooledRows:
    make: Callable[[], Iterator[dict[str, Any]]]
    # Files that are alike in size and time are told apart by their names, and so are splits.
    known = f"{kind} {path.absolute()} {source.split}"
    if kind == "coco":
        make, stamp = partial(coco_rows, path), partial(stamp_of, path)
    elif kind == "yolo":
        make, stamp = partial(yolo_rows, path, source.split), partial(_folder_stamp, path)
    else:
        make, stamp = partial(voc_rows, path, source.split), partial(_folder_stamp, path)
    return SpooledRows(path, folder, known, stamp, make)


def _folder_stamp(path: Path) -> str:
    """Changes when a label of a folder changes."""
    names = ("*.txt", "*.xml", "data.y*ml")
    files = sorted(file for name in names for file in path.rglob(name))
    # The folders too: a picture without a label file is a sample.
    folders = sorted(entry for entry in path.rglob("*") if entry.is_dir())
    stamps = (f"{file.relative_to(path)} {stamp_of(file)}" for file in (*files, *folders))
    return digest_of("\n".join(stamps).encode("utf-8", "surrogateescape"))


def _hub_rows(source: Source, folder: Path) -> RowSource:
    name = Path(source.title)
    if not source.streaming:
        return TableRows(name, LoadTable(source))
    known = f"{source.hub} {source.subset} {source.split} {source.revision} {source.num_samples}"
    stamp = digest_of(known.encode())
    return SpooledRows(name, folder, known, lambda: stamp, partial(_streamed, source))


def _streamed(source: Source) -> Iterator[dict[str, Any]]:
    """The first rows of a hub data set; what stands behind them is not fetched."""
    from datasets import load_dataset

    assert source.hub is not None
    assert source.num_samples is not None
    try:
        stream = load_dataset(
            source.hub, source.subset, split=source.split, revision=source.revision, streaming=True
        )
        tables = stream.with_format("arrow").take(source.num_samples).iter(batch_size=64)
        table: Any
        for table in tables:
            for row in table.to_pylist():
                # Not under their own names, which may be place or fault.
                yield {"row": row}
    except Exception as error:  # the library raises some thirty kinds
        raise DataError(
            f"the data set cannot be read: {type(error).__name__}: {first_line(error)}",
            file=source.title,
            fix="Check its name, its subset, its split and the network.",
            code="source.broken",
        ) from error
