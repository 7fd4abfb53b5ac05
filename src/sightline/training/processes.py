"""The processes of a run: one, or as many as a launcher started.

Nothing but the launcher's variables is read, so that torchrun, ``accelerate launch`` and
``sightline train --processes`` are alike.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from accelerate import PartialState

_PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others: one of them may read a large data set first."""


def num_processes() -> int:
    """Processes of this run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """Whether this process writes and tells."""
    return rank() == 0


def join_processes() -> None:
    """Meet the other processes; returns at once where there are none."""
    if num_processes() > 1:
        PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE)


@contextmanager
def one_after_the_first() -> Iterator[None]:
    """The first process does it before the others, which find what it made."""
    if num_processes() == 1:
        yield
        return
    with PartialState().main_process_first():
        yield
