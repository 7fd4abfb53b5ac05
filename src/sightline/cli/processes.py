"""``--processes`` and ``--max-restarts``: the same command in several processes, and again."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sightline.config import RunConfig
from sightline.errors import RunError
from sightline.launching import Launch, is_launched, launch
from sightline.records import RunDirectory


def train_in_processes(
    config: RunConfig,
    command: Sequence[str],
    options: Sequence[str],
    *,
    processes: int,
    max_restarts: int,
) -> int:
    """Run a command of ours that trains, in so many processes.

    Args:
        config: What it trains.
        command: Its words, from the name of the command on.
        options: Of the first start, such as ``--overwrite``. After a crash there is ``--resume``
            in their place, unless the run had not begun to write its directory: then nothing of it
            is there to go on from.
        processes: How many.
        max_restarts: How often they are started again.

    Returns:
        0, or the exit code of what failed, which the user was told.

    Raises:
        RunError: This process is one of several itself.
    """
    if is_launched(os.environ):
        raise RunError(
            "--processes or --max-restarts, and RANK in the environment: this process was started "
            "by torchrun or another launcher.\nLeave the options out, and tell that launcher."
        )
    ours = [sys.executable, "-m", "sightline", *command]
    what = Launch(
        command=[*ours, *options],
        again=lambda has_begun: [*ours, "--resume"] if has_begun else [*ours, *options],
        num_processes=processes,
        max_restarts=max_restarts,
        run=RunDirectory(Path(config.output)),
    )
    return launch(what, lambda text: print(f"sightline: {text}", file=sys.stderr, flush=True))
