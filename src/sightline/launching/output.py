"""What a process of a run writes: to its log, and for the first one to the terminal, too."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import IO

# Before a run has a directory, this much of what is written is kept for its log.
_MOST_WAITING_BYTES = 2**20
_TAIL_LINES = 40
# Notes and warnings of torch's C++ code; they are in the log.
_TO_DEVELOPERS = re.compile(rb"\[rank\d+\]:\[[IW]")


class RankOutput:
    """Lines of one process.

    Args:
        pipe: What it writes.
        is_shown: Whether lines go to the terminal as well.
    """

    def __init__(self, pipe: IO[bytes], *, is_shown: bool) -> None:
        self._pipe = pipe
        self._is_shown = is_shown
        self._lock = threading.Lock()
        self._waiting = bytearray()
        self._path: Path | None = None
        self._log: IO[bytes] | None = None
        self._held: deque[tuple[float, bytes]] = deque()
        self._tail: deque[bytes] = deque(maxlen=_TAIL_LINES)
        self._thread = threading.Thread(target=self._pump, daemon=True)
        self._thread.start()

    def log_to(self, path: Path) -> None:
        """Write the lines so far, and all that follow, to the end of a file.

        It is made with the first line: a process that says nothing has none.
        """
        with self._lock:
            if self._path is None:
                self._path = path
                self._write(bytes(self._waiting))

    def show(self, *, older_than: float) -> None:
        """Show lines on standard error.

        Args:
            older_than: Seconds since they were written. A process whose neighbour has died
                complains of it at once; by then the launcher knows, and shows no more.
        """
        until = time.monotonic() - older_than
        while self._held and self._held[0][0] <= until:
            _, line = self._held.popleft()
            if _TO_DEVELOPERS.match(line):
                continue
            sys.stderr.write(line.decode(errors="replace"))
            sys.stderr.flush()

    def finish(self, seconds: float) -> None:
        """Wait for the last lines. A child of the process may hold the line open: not for ever."""
        self._thread.join(seconds)

    @property
    def tail(self) -> list[str]:
        """The last lines."""
        with self._lock:
            return [line.decode(errors="replace").rstrip() for line in self._tail]

    @property
    def log(self) -> Path | None:
        """The file; None where there is none."""
        return self._path if self._log is not None else None

    def _pump(self) -> None:
        for line in iter(self._pipe.readline, b""):
            with self._lock:
                self._tail.append(line)
                if self._is_shown:
                    self._held.append((time.monotonic(), line))
                if self._path is None:
                    self._waiting += line
                    del self._waiting[:-_MOST_WAITING_BYTES]
                else:
                    self._write(line)

    def _write(self, content: bytes) -> None:
        if not content or self._path is None:
            return
        try:
            if self._log is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._log = self._path.open("ab", buffering=0)
            self._log.write(content)
        except OSError:
            # A full disk ends the run by what the run itself writes, with a message.
            return
