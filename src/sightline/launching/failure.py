"""Which process failed first, and what the user is told of it."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sightline.launching.error_file import ErrorRecord

# What a process says when another one is gone: of torch's collectives, of its store, of ours.
_COMPLAINT = re.compile(
    r"gloo|nccl|c10d|TCPStore|DistBackendError|DistNetworkError|DistStoreError"
    r"|Connection (closed|reset|refused)|Broken pipe|Timed out waiting|ended this one",
    re.IGNORECASE,
)
_TRACE_LINES = 8
# Before a process of ours heeds signals itself, they end it like any other.
_INTERRUPTED = tuple(code for one in (signal.SIGINT, signal.SIGTERM) for code in (-one, 128 + one))


@dataclass(frozen=True, kw_only=True, slots=True)
class Death:
    """How a process ended by itself.

    Attributes:
        rank: Its number.
        exit_code: Negative for a signal; None where it was still running.
        seconds: When it ended, since 1970.
        record: What it says that it failed of; None where it said nothing.
        tail: The last lines that it wrote.
        log: Where all lines are; None where they are in no file.
    """

    rank: int
    exit_code: int | None
    seconds: float
    record: ErrorRecord | None
    tail: Sequence[str]
    log: Path | None

    @property
    def is_consequence(self) -> bool:
        """Whether it only complains that another one is gone."""
        if self.record is not None:
            return self.record.kind != "stopped" and bool(_COMPLAINT.search(self.record.message))
        # The watchdog of NCCL ends a process that waits for another in this way.
        return self.exit_code == -signal.SIGABRT

    @property
    def is_interruption(self) -> bool:
        """Whether a signal ended it where it stood."""
        if self.record is not None:
            return self.record.kind == "interrupted"
        return self.exit_code in _INTERRUPTED

    @property
    def is_final(self) -> bool:
        """Whether it would end in the same way again, or was meant to end."""
        return self.record is not None and self.record.kind != "crash"

    @property
    def began(self) -> float:
        """When it failed: an error is older than the end of its process."""
        return self.seconds if self.record is None else min(self.seconds, self.record.seconds)

    @property
    def shell_code(self) -> int:
        """The exit code as shells give it: 128 and the number of a signal."""
        if self.record is not None:
            return self.record.exit_code
        code = self.exit_code or 0
        return code if code >= 0 else 128 - code


def first_of(deaths: Sequence[Death]) -> Death:
    """The one that the others followed.

    Args:
        deaths: At least one.
    """
    first = min(deaths, key=lambda death: (death.is_consequence, death.began))
    if first.record is None:
        return first
    # Bad input is found by all at the same moment; it is told as if there were one process.
    message = first.record.message
    alike = [one for one in deaths if one.record is not None and one.record.message == message]
    return min(alike, key=lambda death: death.rank)


def told(death: Death, num_processes: int, oom_kills: int | None) -> str:
    """What the user is told.

    Args:
        death: What came first.
        num_processes: Processes of the run.
        oom_kills: Processes that the system ended for lack of memory meanwhile; None where it
            does not say.
    """
    who = "the run" if num_processes == 1 else f"rank {death.rank} of {num_processes}"
    record = death.record
    if record is not None and record.kind != "crash":
        return record.message if death.rank == 0 else f"{who}: {record.message}"
    if record is not None:
        lines = record.trace.rstrip().splitlines()
        # Without a log the end of it would be all that there is.
        shown = lines if death.log is None else lines[-_TRACE_LINES:]
        head = f"{who} ended with exit code {record.exit_code}: {record.message}"
        return "\n".join([head, *(f"  {line}" for line in shown), *_where(death)])
    code = death.exit_code or 0
    if code >= 0:
        head = f"{who} ended with exit code {code}, without an error of Python's."
    else:
        head = f"{who} was killed by {signal.Signals(-code).name}."
    tail = [f"  {line}" for line in death.tail[-_TRACE_LINES:]]
    return "\n".join([head, *_cause(-code, oom_kills), *tail, *_where(death)])


def _cause(signum: int, oom_kills: int | None) -> list[str]:
    if signum != signal.SIGKILL:
        return []
    if oom_kills:
        return [
            f"The system ended {oom_kills} of its processes meanwhile because memory ran out: most "
            "likely this one.",
            "Lower training.tokens_per_row, training.batch_size or training.num_workers, or start "
            "fewer processes.",
        ]
    said = "" if oom_kills is None else " It counts none here; where it does elsewhere, dmesg says."
    return [f"Somebody ended it, or the system did because memory ran out.{said}"]


def _where(death: Death) -> list[str]:
    return [] if death.log is None else [f"All of it is in {death.log}"]
