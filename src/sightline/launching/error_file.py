"""What a process of a run failed of, in a file: how its launcher learns it.

The file is the one of torchrun, in its format, so that a run says the same under either.
"""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sightline.errors import Interrupted, SightlineError, StoppedError
from sightline.launching.environment import ERROR_FILE

Kind = Literal["user", "stopped", "interrupted", "crash"]
_CRASHED = 1
_INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorRecord:
    """What a process failed of.

    Attributes:
        kind: ``user``: the user's to mend. ``stopped``: it was told to stop, together with all
            others, and did. ``interrupted``: a signal ended it where it stood. ``crash``: all else.
        message: For the user.
        trace: Where it was raised; empty where that is nothing to the user.
        exit_code: With which it ends.
        seconds: When, since 1970.
    """

    kind: Kind
    message: str
    trace: str
    exit_code: int
    seconds: float

    @classmethod
    def of(cls, error: BaseException) -> ErrorRecord:
        """What an error says of the process that it ends."""
        kind: Kind = "crash"
        message, trace, exit_code = f"{type(error).__name__}: {error}", "", _CRASHED
        match error:
            case StoppedError():
                kind, message, exit_code = "stopped", str(error), error.exit_code
            case SightlineError():
                kind, message, exit_code = "user", str(error), error.exit_code
            case KeyboardInterrupt():
                signum = error.signum if isinstance(error, Interrupted) else None
                exit_code = _INTERRUPTED if signum is None else 128 + signum
                kind, message = "interrupted", "stopped."
            case _:
                trace = "".join(traceback.format_exception(error))
        return cls(
            kind=kind, message=message, trace=trace, exit_code=exit_code, seconds=time.time()
        )

    def write(self, path: Path) -> None:
        """Write it where the launcher looks for it, whole or not at all."""
        record = {
            "message": {
                "message": self.message,
                "extraInfo": {
                    "py_callstack": self.trace or self.message,
                    "timestamp": str(int(self.seconds)),
                },
            },
            "sightline": {
                "kind": self.kind,
                "trace": self.trace,
                "exit_code": self.exit_code,
                "seconds": self.seconds,
            },
        }
        beside = path.with_name(f"{path.name}.part")
        beside.write_text(json.dumps(record), encoding="utf-8")
        beside.replace(path)

    @classmethod
    def read(cls, path: Path) -> ErrorRecord | None:
        """What a process wrote; None where it wrote nothing."""
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return cls(message=record["message"]["message"], **record["sightline"])


@contextmanager
def errors_told() -> Iterator[None]:
    """Tell the launcher, where there is one, of the error that leaves this process."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if path := os.environ.get(ERROR_FILE):
            # A full disk must not hide what the process failed of.
            with suppress(OSError):
                ErrorRecord.of(error).write(Path(path))
        raise
