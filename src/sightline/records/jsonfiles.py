"""Strict JSON and JSON Lines: no NaN, no half line."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from sightline.errors import RunError
from sightline.records.atomic import encoded, write_text, writing


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON whole or not at all.

    Raises:
        RunError: A number is not finite, or a text is no Unicode; the message names its place.
    """
    write_text(path, _strict_json(path, value, indent=2) + "\n")


def append_jsonl(path: Path, value: Any) -> None:
    """Add one line of strict JSON, and hand it to the system at once.

    A last line that was cut off when an earlier process ended is taken away first.

    Raises:
        RunError: As `write_json`.
    """
    line = encoded(path, _strict_json(path, value, indent=None) + "\n")
    with writing(path, num_bytes=len(line)):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            _end_last_line(file)
            file.write(line)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        RunError: Missing, unreadable, or not JSON.
    """
    try:
        return _loaded(path.read_bytes())
    except FileNotFoundError as error:
        raise RunError(f"{path}: the file is missing.") from error
    except ValueError as error:
        raise RunError(f"{path}: the file is broken: {error}.") from error
    except OSError as error:
        raise RunError(f"{path}: the file cannot be read: {error.strerror}.") from error


def read_jsonl(path: Path) -> list[Any]:
    """Read a JSONL file; a last line that was cut off while it was written is left out.

    Returns:
        The objects; none where there is no file yet.

    Raises:
        RunError: Unreadable, or a line that was written whole is not JSON.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"{path}: the file cannot be read: {error.strerror}.") from error
    # Not splitlines: JSON keeps U+2028 and its like inside a text, and they end no line here.
    *lines, rest = content.split(b"\n")
    if _is_json(rest):
        lines.append(rest)
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(_loaded(line))
        except ValueError as error:
            raise RunError(f"{path}:{number}: the line is broken: {error}.") from error
    return rows


def _end_last_line(file: BinaryIO) -> None:
    """Bring a file to the end of a line: a whole last line is ended, a torn one taken away."""
    end = file.seek(0, os.SEEK_END)
    if end == 0:
        return
    file.seek(end - 1)
    if file.read(1) == b"\n":
        return
    file.seek(0)
    last = file.read().rpartition(b"\n")[2]
    if _is_json(last):
        file.write(b"\n")
    else:
        file.truncate(end - len(last))


def _is_json(line: bytes) -> bool:
    try:
        _loaded(line)
    except ValueError:
        return False
    return True


def _loaded(content: bytes) -> Any:
    """Strict JSON as an object; what is wrong with it is a ValueError."""
    return json.loads(content.decode("utf-8"), parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number that JSON can hold")


def _strict_json(path: Path, value: Any, *, indent: int | None) -> str:
    for place, problem in _unwritable(value, ""):
        raise RunError(f"{path}: {place or 'the value'} {problem}.")
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)


def _unwritable(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Places of what JSON in UTF-8 cannot hold, and why."""
    match value:
        case float() if not math.isfinite(value):
            yield place, "is not a finite number, which JSON cannot hold"
        case str() if not _is_unicode(value):
            # A file name that is not UTF-8, or an escape such as \ud800 in a data file.
            yield place, f"is {value!r}: it holds half a character, which UTF-8 cannot hold"
        case dict():
            for name, item in value.items():
                yield from _unwritable(item, f"{place}.{name}" if place else str(name))
        case list() | tuple():
            for index, item in enumerate(value):
                yield from _unwritable(item, f"{place}[{index}]")


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
