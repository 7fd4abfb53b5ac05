"""Data files, row by row, as conversations that know their file and line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from sightline.config import Source
from sightline.data.conversation import Conversation, Origin
from sightline.data.formats import (
    STRUCTURAL_TOKENS,
    MediaFolder,
    RowContext,
    SampleFormat,
    ShareGptShape,
    detect_format,
    parse_row,
)
from sightline.errors import DataError

_SPACE = re.compile(r"[ \t\r\n]*")
_NUM_CHARS_AROUND = 30
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_source(
    source: Source,
    *,
    structural_tokens: tuple[str, ...] = STRUCTURAL_TOKENS,
    strip_prefix: str | None = None,
) -> Iterator[Conversation]:
    """The samples of a data file, in order, each parsed when it is asked for.

    Args:
        source: The file and how to read it. A source that names an entry of a declaration is
            replaced first, by ``sightline.interop.expand_sources``.
        structural_tokens: Tokens that text must not contain, because the tokenizer would read
            them as control tokens.
        strip_prefix: Leading folders that the rows' media paths carry and the disk does not.

    Raises:
        DataError: The file is missing, empty or broken, or a sample is wrong.
        MediaError: An image or video file is not there.
    """
    path = Path(source.path)
    root = path.parent if source.media_root is None else Path(source.media_root)
    media = MediaFolder(root=root, strip_prefix=strip_prefix)
    shape = _declared_shape(source)
    for origin, row in read_rows(path):
        context = RowContext(origin=origin, media=media, structural_tokens=structural_tokens)
        yield parse_row(row, context, declared=source.format, shape=shape)


def read_rows(path: Path) -> Iterator[tuple[Origin, object]]:
    """The rows of a ``.json`` or ``.jsonl`` file, each with the line at which it begins.

    Raises:
        DataError: The file is missing, unreadable, empty, of another kind, or not JSON.
    """
    readers = {".json": _rows_of_json, ".jsonl": _rows_of_jsonl}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        what = f"the file ends in {path.suffix!r}; .json and .jsonl are read."
        raise DataError(what, file=path, fix="Convert it to JSON Lines: one sample a line.")
    num_rows = 0
    try:
        for index, (line, row) in enumerate(reader(path)):
            yield Origin(file=path, line=line, index=index), row
            num_rows += 1
    except OSError as error:
        what = f"the data file cannot be read: {error.strerror}."
        raise DataError(what, file=path, fix="Check the path of the data file.") from error
    if num_rows == 0:
        raise DataError("the file holds no sample.", file=path, fix="Check the path.")


def first_format(source: Source) -> SampleFormat:
    """The shape of the first sample of a source, as a run states it.

    Raises:
        DataError: As ``read_rows``, or the first row has no known shape.
    """
    if source.columns is not None or source.tags is not None:
        return "sharegpt"
    if source.format is not None:
        return source.format
    origin, row = next(read_rows(Path(source.path)))
    return detect_format(row, origin=origin)


def _rows_of_jsonl(path: Path) -> Iterator[tuple[int, object]]:
    with path.open("rb") as file:
        for line, raw in enumerate(file, start=1):
            raw = raw.removeprefix(_BYTE_ORDER_MARK) if line == 1 else raw
            text = _decoded(raw, path, line).rstrip("\r\n")
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except json.JSONDecodeError as error:
                fix = "Each line of a .jsonl file is one whole sample; a list is a .json file."
                raise _broken(error, path, line, fix) from error
            except RecursionError as error:
                raise DataError("nested too deep.", file=path, line=line) from error
            yield line, row


def _rows_of_json(path: Path) -> Iterator[tuple[int, object]]:
    """The rows of a list, walked one by one so that the line of each is exact."""
    text = _decoded(path.read_bytes().removeprefix(_BYTE_ORDER_MARK), path, 1)
    position, line = _skip_space(text, 0), 1
    if position == len(text):
        return
    _refuse_other_than_list(text, position, path)
    decoder = json.JSONDecoder()
    begin, position = 0, _skip_space(text, position + 1)
    closed = text.startswith("]", position)
    while not closed:
        line += text.count("\n", begin, position)
        begin = position
        try:
            row, end = decoder.raw_decode(text, position)
            position, closed = _after_row(text, end)
        except json.JSONDecodeError as error:
            raise _broken(error, path, error.lineno, "Mend the file there.") from error
        except RecursionError as error:
            raise DataError("nested too deep.", file=path, line=line) from error
        yield line, row
    rest = _skip_space(text, position + 1)
    if rest < len(text):
        error = json.JSONDecodeError("text after the end of the list", text, rest)
        raise _broken(error, path, error.lineno, "Mend the file there.")


def _after_row(text: str, end: int) -> tuple[int, bool]:
    """Where the next row begins, or where the list is closed, and which of the two."""
    position = _skip_space(text, end)
    if text.startswith("]", position):
        return position, True
    if text.startswith(",", position):
        return _skip_space(text, position + 1), False
    raise json.JSONDecodeError("Expecting ',' or ']' after a sample", text, position)


def _refuse_other_than_list(text: str, position: int, path: Path) -> None:
    if text.startswith("[", position):
        return
    line = text.count("\n", 0, position) + 1
    what = "a .json data file is a list of samples, and this one does not begin with [."
    fix = "Name the file .jsonl if each line is a sample."
    if text.startswith("{", position) and '"file_name"' in text:
        fix = "This looks like a dataset_info.json: say which of its data sets with name."
    raise DataError(what, file=path, line=line, fix=fix)


def _skip_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return position if found is None else found.end()


def _decoded(raw: bytes, path: Path, line: int) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line += raw.count(b"\n", 0, error.start)
        what = f"byte 0x{raw[error.start]:02x} is not UTF-8."
        raise DataError(what, file=path, line=line, fix="Save the file as UTF-8.") from error


def _broken(error: json.JSONDecodeError, path: Path, line: int, fix: str) -> DataError:
    begin = max(error.pos - _NUM_CHARS_AROUND, error.doc.rfind("\n", 0, error.pos) + 1)
    around = error.doc[begin : error.pos + _NUM_CHARS_AROUND].split("\n")[0].strip()
    reason = error.msg[0].lower() + error.msg[1:]
    near = f"near {around!r}" if around else "at the end of the line"
    what = f"broken JSON in column {error.colno}: {reason}, {near}."
    return DataError(what, file=path, line=line, fix=fix)


def _declared_shape(source: Source) -> ShareGptShape | None:
    """The names that the rows of a source use, where the user declares them; None: not declared.

    What ``columns`` or ``tags`` leaves out does not exist; ShareGPT's own names hold only where
    the whole of it is missing. This is LLaMA-Factory's rule.
    """
    if source.columns is None and source.tags is None:
        return None
    columns = {} if source.columns is None else source.columns.model_dump()
    tags = {} if source.tags is None else source.tags.model_dump()
    return ShareGptShape(**columns, **tags)
