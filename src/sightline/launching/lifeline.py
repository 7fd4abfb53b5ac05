"""A process of a run ends when its launcher is gone, however that went."""

from __future__ import annotations

import os
import signal
import threading

_STDIN = 0


def end_with_launcher() -> None:
    """End this process as SIGTERM does, saving first, when its launcher is gone.

    The standard input of a process of a run is a pipe that only its launcher can write to, and
    never does: it ends when the launcher does, even by SIGKILL.
    """
    threading.Thread(target=_wait, name="lifeline", daemon=True).start()


def _wait() -> None:
    while os.read(_STDIN, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
