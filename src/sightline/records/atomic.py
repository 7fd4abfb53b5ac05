"""Writing beside and renaming: a file is there whole, or not at all."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sightline.errors import RunError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write into one message with the path and what to do.

    Raises:
        RunError: No space, no permission, or another fault of the file system.
    """
    try:
        yield
    except OSError as error:
        raise RunError(_explained(path, error)) from error


@contextmanager
def full_disk_explained(path: Path) -> Iterator[None]:
    """Turn a full disk, and nothing else, into one message.

    For code of others that writes by itself: Safetensors reports a full disk as an error of its
    own kind, with the system's text in it.

    Raises:
        RunError: No space left.
    """
    try:
        yield
    except Exception as error:
        code = error.errno if isinstance(error, OSError) else None
        if code in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error):
            raise RunError(_explained(path, OSError(errno.ENOSPC, ""))) from error
        raise


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        beside = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.chmod(0o644)
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON whole or not at all.

    Raises:
        RunError: A number is not finite; the message names its place.
    """
    place = _not_finite(value, "")
    if place is not None:
        raise RunError(f"{path}: {place} is not a finite number, which JSON cannot hold.")
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def append_jsonl(path: Path, value: Any) -> None:
    """Add one line of strict JSON, and hand it to the system at once."""
    place = _not_finite(value, "")
    if place is not None:
        raise RunError(f"{path}: {place} is not a finite number, which JSON cannot hold.")
    with writing(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(value, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        RunError: Missing, unreadable, or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{path}: the file is missing.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: the file is broken: {error}.") from error
    except OSError as error:
        raise RunError(f"{path}: the file cannot be read: {error.strerror}.") from error


def read_jsonl(path: Path) -> list[Any]:
    """Read a JSONL file; a last line that was cut off while it was written is left out."""
    if not path.is_file():
        return []
    rows = []
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise RunError(f"{path}:{number}: the line is broken: {error}.") from error
    return rows


@contextmanager
def atomic_directory(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A folder that appears under its name when it is whole.

    Args:
        path: The folder's name at the end.
        replace: Whether an existing folder gives way.

    Yields:
        A folder beside it, to build in. It is removed when building fails.

    Raises:
        RunError: The name is taken, or the file system refuses.
    """
    with writing(path), full_disk_explained(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not replace:
            raise RunError(f"{path}: the folder is there already.")
        building = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            yield building
            building.chmod(0o755)
            if path.exists():
                shutil.rmtree(path)
            building.replace(path)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise


def _explained(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = path if path.exists() else path.parent
        free = shutil.disk_usage(place).free if place.exists() else 0
        return (
            f"{path}: no space left on the device ({free / 2**20:.0f} MiB free).\n"
            "Free some space, or choose another output, and start again."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path}: not allowed to write there.\nChoose another output."
    return f"{path}: cannot be written: {error.strerror or error}."


def _not_finite(value: Any, place: str) -> str | None:
    """The place of a number that is not finite, or None."""
    if isinstance(value, float):
        return None if math.isfinite(value) else place or "the value"
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list | tuple):
        items = list(enumerate(value))
    for key, item in items:
        found = _not_finite(item, f"{place}.{key}" if place else str(key))
        if found is not None:
            return found
    return None
