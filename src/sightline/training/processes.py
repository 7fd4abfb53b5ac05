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
import torch.distributed as dist
from accelerate import PartialState

from sightline.errors import StoppedError

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
def processes_joined() -> Iterator[None]:
    """Meet the other processes, and take leave of them where all come to the end together.

    Without leave, threads that wait for the others may end a process by SIGABRT when Python ends.
    Where something failed nobody is waited for: others may be gone. Who had met them before keeps
    them.
    """
    had_met = dist.is_initialized()
    join_processes()
    try:
        yield
    except StoppedError:
        _take_leave(had_met)
        raise
    _take_leave(had_met)


def _take_leave(had_met: bool) -> None:
    if dist.is_initialized() and not had_met:
        dist.destroy_process_group()


@contextmanager
def one_after_the_first() -> Iterator[None]:
    """The first process does it before the others, which find what it made."""
    if num_processes() == 1:
        yield
        return
    with PartialState().main_process_first():
        yield
