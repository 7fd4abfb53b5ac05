"""Every error that Sightline raises for its users.

    SightlineError
    ├── ConfigError         the run configuration disagrees with itself or with a file
    ├── DataError           a sample, with its file, line and field
    │   └── MediaError      an image or video that cannot be read or used
    ├── LayoutError         placeholders, grids and positions disagree
    ├── ModelError          a checkpoint that is not there, not known or not whole
    ├── PlanError           a tuning plan that cannot do what it says
    ├── RunError            a run directory that is missing, in use or not writable
    │   ├── DivergedError   a loss or a gradient that is not finite
    │   └── LeakError       samples of a packed row that see each other
    ├── OutOfMemoryError    what was asked for does not fit the machine (exit code 3)
    ├── StoppedError        a run that was told to stop, and did (exit code 128 + signal)
    └── VerifyError         an export that cannot be compared with what trained

    KeyboardInterrupt
    └── Interrupted         a signal that ends the program where it stands

The command line prints the message alone and ends with exit code 2, or the one named above. A
message says what disagrees, both numbers, where it stands, and what to do.
"""

from __future__ import annotations

from pathlib import Path


def first_line(error: BaseException) -> str:
    """What an error of a library says, in one line; its kind where it says nothing.

    >>> first_line(ValueError("no such key\\n(and forty lines more)"))
    'no such key'
    >>> first_line(MemoryError())
    'MemoryError'
    """
    return [*str(error).strip().splitlines(), type(error).__name__][0]


class SightlineError(Exception):
    """Base of every error that is the user's to mend.

    Attributes:
        exit_code: With which the command line ends.
    """

    exit_code: int = 2


class ConfigError(SightlineError):
    """The run configuration is wrong, contradicts itself, or names something that is not there."""


class DataError(SightlineError):
    """A sample that cannot be used.

    Args:
        what: What disagrees, with both numbers where there are two.
        file: The data file.
        line: Line of the sample in a JSONL file or, for a JSON file, the line at which the
            sample begins. 1-based.
        field: Path of the field inside the sample, for example ``messages[2].content``.
        fix: What to do about it.
        code: The kind of fault, by which reports count: ``media.missing``.
    """

    def __init__(
        self,
        what: str,
        *,
        file: str | Path | None = None,
        line: int | None = None,
        field: str | None = None,
        fix: str | None = None,
        code: str = "sample.wrong",
    ) -> None:
        self.what = what
        self.code = code
        self.file = str(file) if file is not None else None
        self.line = line
        self.field = field
        self.fix = fix
        super().__init__(self._message())

    def _message(self) -> str:
        where = ""
        if self.file is not None:
            where = self.file if self.line is None else f"{self.file}:{self.line}"
        if self.field is not None:
            where = f"{where}: {self.field}" if where else self.field
        parts = [f"{where}: {self.what}" if where else self.what]
        if self.fix is not None:
            parts.append(self.fix)
        return "\n".join(parts)


class MediaError(DataError):
    """An image or a video that is missing, broken or of an impossible shape."""


class LayoutError(SightlineError):
    """Placeholders, grids, seconds and positions of a sequence disagree."""


class ModelError(SightlineError):
    """A checkpoint that is missing, incomplete, or of a family that Sightline does not know."""


class PlanError(SightlineError):
    """A tuning plan that trains nothing, or that would damage the model."""


class RunError(SightlineError):
    """A run directory that is missing, incomplete, in use, or cannot be written."""


class DivergedError(RunError):
    """A loss or a gradient that is not finite."""


class LeakError(RunError):
    """Samples of a packed row that see each other."""


class OutOfMemoryError(SightlineError):
    """A step, or the data of one, that does not fit the memory of the machine."""

    exit_code = 3


class StoppedError(SightlineError):
    """A run that ended early because it was told to; what it needs to go on is saved.

    Args:
        what: After which step, and how to go on.
        exit_code: 128 and the number of the signal.
    """

    def __init__(self, what: str, *, exit_code: int = 130) -> None:
        super().__init__(what)
        self.exit_code = exit_code


class VerifyError(SightlineError):
    """An export that cannot be compared with what was trained."""


class Interrupted(KeyboardInterrupt):
    """A signal that ends the program where it stands; raised as Ctrl-C is, with its cleaning up.

    Args:
        signum: Number of the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum
