"""The signals that stop a run, and what tells one that is sent twice from two."""

from __future__ import annotations

import signal
import time

SIGNALS = (signal.SIGINT, signal.SIGTERM)

# Far above what lies between the two of timeout(1), below what a person's finger can do.
_ECHO_SECONDS = 0.05


class SignalEchoes:
    """Tells the echo of a signal from a second one.

    GNU timeout and service managers signal a process and then its whole group, in which the process
    is, too: what was meant as one arrives as two, and the second would end what the first has asked
    to be saved.
    """

    def __init__(self) -> None:
        self._signum: int | None = None
        self._until = 0.0

    def heard(self, signum: int) -> None:
        """A signal was heard: the same within a moment is its echo."""
        self._signum, self._until = signum, time.monotonic() + _ECHO_SECONDS

    def is_echo(self, signum: int) -> bool:
        """Whether this one is the echo of the one that was heard last."""
        return signum == self._signum and time.monotonic() < self._until
