"""One process of a run: started, watched, signalled, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from sightline.launching.error_file import ErrorRecord
from sightline.launching.output import RankOutput


class RankProcess:
    """A process of the run, in a session of its own: what its terminal sends, it gets from here.

    Args:
        rank: Its number.
        command: The program.
        environment: Its environment.
        error_file: Where it writes what it failed of.
        lifeline: Read end of the pipe that ends with the launcher.
    """

    def __init__(
        self,
        rank: int,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        error_file: Path,
        lifeline: int,
    ) -> None:
        self.rank = rank
        self._error_file = error_file
        # The first one draws on the terminal; what it complains of is shown with care.
        is_first = rank == 0
        self._process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=lifeline,
            stdout=None if is_first else subprocess.PIPE,
            stderr=subprocess.PIPE if is_first else subprocess.STDOUT,
            start_new_session=True,
        )
        self.exit_code: int | None = None
        """The exit code, negative for a signal; None while it runs."""
        self.ended_at: float | None = None
        """When it ended, seconds since 1970: those that end within a moment have an order."""
        self.was_killed = False
        """Whether it was ended from here."""
        pipe = self._process.stderr if is_first else self._process.stdout
        assert pipe is not None
        self.output = RankOutput(pipe, is_shown=is_first)
        threading.Thread(target=self._wait, daemon=True).start()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.exit_code is None

    @property
    def record(self) -> ErrorRecord | None:
        """What it says that it failed of."""
        return ErrorRecord.read(self._error_file)

    def signal(self, signum: int) -> None:
        """Send a signal to the process, and not to those that it started."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signum)

    def kill(self) -> None:
        """End it and all that it started, at once."""
        if self.is_running:
            self.was_killed = True
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _wait(self) -> None:
        code = self._process.wait()
        self.ended_at = time.time()
        self.exit_code = code
