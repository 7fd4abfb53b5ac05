"""Writing beside and renaming: a file is there whole, or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sightline.errors import RunError

_NUM_RANDOM = 4
_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def writing(path: Path, *, num_bytes: int | None = None) -> Iterator[None]:
    """Turn a failure to write into one message with the path and what to do.

    Args:
        path: What is written.
        num_bytes: Size of what is written, where it is known.

    Raises:
        RunError: No space, no permission, or another fault of the file system.
    """
    try:
        yield
    except OSError as error:
        raise RunError(_explained(path, error, num_bytes)) from error


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
        if code in _FULL or "No space left on device" in str(error):
            raise RunError(_explained(path, OSError(errno.ENOSPC, ""))) from error
        raise


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file whole or not at all.

    Raises:
        RunError: The file system refuses, or the text is no Unicode.
    """
    write_bytes(path, encoded(path, text))


def encoded(path: Path, text: str) -> bytes:
    """Text as UTF-8.

    Args:
        path: Where it is to be written, for the message.
        text: The text.

    Raises:
        RunError: It holds a lone surrogate, as in a file name that is not UTF-8.
    """
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RunError(
            f"{path}: {text[error.start]!r} in the text is half a character, which UTF-8 cannot "
            "hold. Rename the file or mend the data that it comes from."
        ) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        RunError: The file system refuses.
    """
    beside = _beside(path)
    with writing(path, num_bytes=len(content)):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A file that appears under its name when it is whole.

    Yields:
        A name beside it, to write to. What is there is removed when writing fails.

    Raises:
        RunError: The file system refuses.
    """
    beside = _beside(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield beside
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


@contextmanager
def atomic_directory(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A folder that appears under its name when it is whole.

    Args:
        path: The folder's name at the end.
        replace: Whether what is there gives way. It stays until the new folder is whole.

    Yields:
        A folder beside it, to build in. It is removed when building fails.

    Raises:
        RunError: The name is taken, or the file system refuses.
    """
    building = _beside(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _refuse_taken(path, replace)
        building.mkdir()
    try:
        with full_disk_explained(path), _writing_below(building, path):
            yield building
        with writing(path):
            _refuse_taken(path, replace)
            _put_in_place(building, path)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def remove(path: Path) -> None:
    """Remove a file, a link (not what it leads to) or a folder with all it holds, if it is there.

    Raises:
        OSError: The file system refuses.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _refuse_taken(path: Path, replace: bool) -> None:
    if not replace and os.path.lexists(path):
        raise RunError(f"{path}: the folder is there already. Choose another.")


def _put_in_place(building: Path, path: Path) -> None:
    if not os.path.lexists(path):
        building.replace(path)
        return
    aside = _beside(path)
    path.replace(aside)
    try:
        building.replace(path)
    except OSError:
        aside.replace(path)
        raise
    remove(aside)


@contextmanager
def _writing_below(building: Path, path: Path) -> Iterator[None]:
    """Explain a failure to write what is built; a failure to read something else is not ours."""
    try:
        yield
    except OSError as error:
        # Without a name it is a write that failed: opening a file names it, writing does not.
        if isinstance(error.filename, str) and not Path(error.filename).is_relative_to(building):
            raise
        raise RunError(_explained(path, error)) from error


def is_unfinished(entry: Path, of: Path) -> bool:
    """Whether something is what a process left that was killed while it wrote a file or folder.

    Args:
        entry: What is there.
        of: The file or folder.
    """
    return entry.parent == of.parent and bool(
        re.fullmatch(rf"\.{re.escape(of.name)}\.[0-9a-f]{{{2 * _NUM_RANDOM}}}", entry.name)
    )


def _beside(path: Path) -> Path:
    """A new name in the same folder, so that renaming stays on one disk."""
    return path.with_name(f".{path.name}.{secrets.token_hex(_NUM_RANDOM)}")


def _explained(path: Path, error: OSError, num_bytes: int | None = None) -> str:
    if error.errno in _FULL:
        place = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
        needed = "" if num_bytes is None else f"{_mebibytes(num_bytes)} needed, "
        return (
            f"{path}: no space left on the device "
            f"({needed}{_mebibytes(shutil.disk_usage(place).free)} free).\n"
            "Free some space, or choose another output, and start again."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path}: not allowed to write there.\nChoose another output."
    return f"{path}: cannot be written: {error.strerror or error}."


def _mebibytes(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:.1f} MiB"
