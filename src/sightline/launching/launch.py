"""Starting the processes of a run together, and again where they crash.

Rank 0 has the terminal; what the others write goes to logs. The first that fails is told, alone,
and the others are ended. A signal goes to all, and they are waited for however long they save; a
second one ends them.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.launching.environment import ReservedPort, environment_of
from sightline.launching.failure import Death, first_of, told
from sightline.launching.oom_killer import num_oom_kills
from sightline.launching.ranks import RankProcess
from sightline.records import RunDirectory
from sightline.signals import SIGNALS, SignalEchoes

_POLL_SECONDS = 0.05
# Those that are left have nothing to save: their step cannot end. They may say what they saw.
_SECONDS_TO_FOLLOW = 2.0
# Lines of rank 0 are held for so long: it complains within milliseconds when another one is gone.
_SECONDS_HELD = 0.5
_SHOW_CURSOR = "\x1b[?25h"


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """What is started.

    Attributes:
        command: The program that every process runs.
        again: The program after a crash; told whether this run had begun to write its directory.
        num_processes: How many.
        max_restarts: How often they are started again.
        run: The run directory, which rank 0 makes.
    """

    command: Sequence[str]
    again: Callable[[bool], Sequence[str]]
    num_processes: int
    max_restarts: int
    run: RunDirectory


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ended:
    """How an attempt ended.

    Attributes:
        death: What failed first; None where nothing did.
        interrupted_by: The signal that ended the processes where they stood; None where none did.
        has_begun: Whether the run had begun to write its directory.
        oom_kills: Processes that the system ended for lack of memory; None where it does not say.
    """

    death: Death | None
    interrupted_by: int | None
    has_begun: bool
    oom_kills: int | None


def launch(what: Launch, tell: Callable[[str], None]) -> int:
    """Run the processes to their end.

    Args:
        what: What is started.
        tell: Told what the user has to know.

    Returns:
        0, or the exit code of the process that failed first; 128 and the signal's number where the
        run was told to stop.
    """
    command, has_begun = what.command, False
    for restart in range(what.max_restarts + 1):
        ended = _Attempt(what, command, has_begun=has_begun).run()
        death, has_begun = ended.death, ended.has_begun
        if ended.interrupted_by is not None:
            tell("stopped.")
            return 128 + ended.interrupted_by
        if death is None:
            return 0
        tell(told(death, what.num_processes, ended.oom_kills))
        if death.is_final or restart == what.max_restarts:
            return death.shell_code
        command = what.again(has_begun)
        tell(f"starting again, {restart + 1} of {what.max_restarts} times.")
    raise AssertionError("every attempt returns or is followed by another")


class _Attempt:
    """One start of all processes."""

    def __init__(self, what: Launch, command: Sequence[str], *, has_begun: bool) -> None:
        self._what = what
        self._command = command
        self._has_begun = has_begun
        self._state_before = _identity(what.run.state_file)
        self._ranks: list[RankProcess] = []
        self._asked: list[int] = []
        self._num_forwarded = 0
        self._give_up_at: float | None = None

    def run(self) -> _Ended:
        """Start them, and see them to their end."""
        kills = num_oom_kills()
        port = ReservedPort()
        read_end, write_end = os.pipe()
        try:
            with tempfile.TemporaryDirectory() as folder, _signals_noted(self._asked):
                self._start(Path(folder), port.number, read_end)
                try:
                    self._watch()
                finally:
                    for rank in self._ranks:
                        rank.kill()
                return self._ended(kills)
        finally:
            port.close()
            os.close(read_end)
            os.close(write_end)

    def _start(self, folder: Path, port: int, lifeline: int) -> None:
        num = self._what.num_processes
        for rank in range(num):
            file = folder / f"rank-{rank}.json"
            environment = environment_of(rank, num, port=port, error_file=file, base=os.environ)
            self._ranks.append(
                RankProcess(
                    rank,
                    self._command,
                    environment=environment,
                    error_file=file,
                    lifeline=lifeline,
                )
            )

    def _watch(self) -> None:
        while any(rank.is_running for rank in self._ranks):
            time.sleep(_POLL_SECONDS)
            self._forward_signals()
            self._open_logs()
            if self._give_up_at is None and any(map(self._has_failed, self._ranks)):
                self._give_up_at = time.monotonic() + _SECONDS_TO_FOLLOW
            if self._give_up_at is None:
                self._ranks[0].output.show(older_than=_SECONDS_HELD)
            elif time.monotonic() > self._give_up_at:
                for rank in self._ranks:
                    rank.kill()

    def _has_failed(self, rank: RankProcess) -> bool:
        """Whether the others cannot go on: it ended, or is about to, and not as all of them do."""
        record = rank.record
        if record is not None:
            return record.kind != "stopped"
        return rank.exit_code not in (None, 0)

    def _forward_signals(self) -> None:
        for signum in self._asked[self._num_forwarded :]:
            self._num_forwarded += 1
            for rank in self._ranks:
                if self._num_forwarded == 1:
                    rank.signal(signum)
                else:
                    rank.kill()

    def _open_logs(self) -> None:
        if not self._has_begun:
            # Another file of that name: rank 0 has made the directory, or opened it to go on.
            now = _identity(self._what.run.state_file)
            self._has_begun = now is not None and now != self._state_before
        if self._has_begun:
            for rank in self._ranks:
                rank.output.log_to(self._what.run.logs / f"rank-{rank.rank}.log")

    def _ended(self, kills_before: int | None) -> _Ended:
        for rank in self._ranks:
            rank.output.finish(1.0)
        self._open_logs()
        deaths = [self._death(rank) for rank in self._ranks if self._died(rank)]
        first = first_of(deaths) if deaths else None
        kills = num_oom_kills()
        if first is None:
            self._ranks[0].output.show(older_than=0.0)
        elif sys.stdout.isatty():
            # Rank 0 may have been drawing.
            sys.stdout.write(_SHOW_CURSOR)
            sys.stdout.flush()
        return _Ended(
            death=first,
            interrupted_by=self._interrupted_by(first),
            has_begun=self._has_begun,
            oom_kills=None if kills is None or kills_before is None else kills - kills_before,
        )

    def _interrupted_by(self, first: Death | None) -> int | None:
        if len(self._asked) > 1 and any(rank.was_killed for rank in self._ranks):
            return self._asked[1]
        if not self._asked or first is None:
            return None
        # One that saved and stopped, or failed to, has more to say than that it was told to.
        return self._asked[0] if first.is_interruption or first.is_consequence else None

    def _died(self, rank: RankProcess) -> bool:
        return rank.record is not None or (rank.exit_code != 0 and not rank.was_killed)

    def _death(self, rank: RankProcess) -> Death:
        return Death(
            rank=rank.rank,
            exit_code=rank.exit_code,
            seconds=rank.ended_at if rank.ended_at is not None else time.time(),
            record=rank.record,
            tail=rank.output.tail,
            log=rank.output.log,
        )


@contextmanager
def _signals_noted(asked: list[int]) -> Iterator[None]:
    """Note signals in place of ending; one that the caller has turned off stays off."""
    before: dict[int, Any] = {}
    echoes = SignalEchoes()

    def note(signum: int, frame: Any) -> None:
        if not echoes.is_echo(signum):
            echoes.heard(signum)
            asked.append(signum)

    try:
        for signum in SIGNALS:
            if signal.getsignal(signum) is not signal.SIG_IGN:
                before[signum] = signal.signal(signum, note)
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from one that took its place."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
