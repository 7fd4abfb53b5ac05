"""One process at a time works in a run directory.

Two that train into the same one would write into each other's checkpoints and curves, and a second
start would take the first for a run that holds nothing yet, and remove it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sightline.errors import RunError
from sightline.records.atomic import writing

CLAIM = ".claim"
"""Name of the file in a run directory that the process at work in it has locked."""

_TAKEN = (errno.EACCES, errno.EAGAIN)
_MOST_BYTES = 1024
# Of network file systems without locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


@contextmanager
def claimed(directory: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Have a run directory for this process alone; it is made where it is not there.

    The lock is the system's: it ends with the process, however that ends, and processes that it
    forked do not hold it.

    Args:
        directory: The run directory.
        tell: Told where the file system has no locks, and nothing keeps another process out.

    Raises:
        RunError: Another process has it, or the file system refuses.
    """
    path = directory / CLAIM
    with writing(path):
        directory.mkdir(parents=True, exist_ok=True)
        descriptor, is_locked = _taken(path)
    try:
        if is_locked:
            with writing(path):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, _told().encode())
        else:
            tell(
                f"{directory}: this file system has no locks. Take care that no other process "
                "trains into the folder."
            )
        yield
    finally:
        # Before it is unlocked: who finds it from here on makes a new one.
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def refuse_claimed(directory: Path) -> None:
    """Refuse a run directory in which another process is at work; one that is free stays as it is.

    Not to be called by the process that has it: the system would unlock it.

    Raises:
        RunError: Says which process.
    """
    path = directory / CLAIM
    with writing(path), suppress(FileNotFoundError, NotADirectoryError):
        descriptor = os.open(path, os.O_RDWR)
        try:
            _lock(descriptor, path)
        finally:
            os.close(descriptor)


def is_at_work(directory: Path) -> bool | None:
    """Whether the process is there that has a run directory; nothing is locked.

    Not to be asked by that process: the system would unlock it.

    Args:
        directory: The run directory.

    Returns:
        False also where none has it. None where it cannot be known from here: it is on another
        machine.
    """
    try:
        content = (directory / CLAIM).read_bytes()
    except FileNotFoundError:
        return False
    except OSError:
        return None
    who = _parsed(content)
    if who is None or who["host"] != socket.gethostname():
        return None
    try:
        os.kill(who["pid"], 0)
    except ProcessLookupError:
        return False
    except OSError:
        # Of another user.
        pass
    return True


def _taken(path: Path) -> tuple[int, bool]:
    """The open file, and whether it is locked; False where its file system has no locks."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            is_locked = _lock(descriptor, path)
        except BaseException:
            os.close(descriptor)
            raise
        if not is_locked or _is_still(descriptor, path):
            return descriptor, is_locked
        # The one who had it before removed it between our opening and our locking.
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> bool:
    try:
        # Not flock: data workers would hold that one on, after the process that forked them died.
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        if error.errno not in _TAKEN:
            raise
        who = _parsed(os.pread(descriptor, _MOST_BYTES, 0))
        told = "another process"
        if who is not None:
            told = f"process {who['pid']} on {who['host']}, since {who['since']},"
        raise RunError(
            f"{path.parent}: {told} is at work in this run directory.\n"
            "Wait for its end, stop it, or choose another output."
        ) from None
    return True


def _is_still(descriptor: int, path: Path) -> bool:
    """Whether the file that is open is still the one of that name."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)


def _told() -> str:
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since})


def _parsed(content: bytes) -> dict[str, Any] | None:
    """What `_told` wrote; None of something else, and of what is not written yet."""
    try:
        told = json.loads(content)
    except ValueError:
        return None
    is_ours = isinstance(told, dict) and {"pid", "host", "since"} <= told.keys()
    return told if is_ours and isinstance(told["pid"], int) and told["pid"] > 0 else None
