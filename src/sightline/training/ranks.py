"""What the processes of a run say to each other, and end together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch.distributed as dist

from sightline.errors import RunError

_T = TypeVar("_T")


def num_ranks() -> int:
    """Processes of the run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def this_rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if num_ranks() > 1 else 0


def from_all(value: _T) -> list[_T]:
    """What every process has, in the order of their numbers. All have to ask, in the same order.

    Args:
        value: What this one has.
    """
    if num_ranks() == 1:
        return [value]
    found: list[Any] = [None] * num_ranks()
    dist.all_gather_object(found, value)
    return found


def from_first(value: _T) -> _T:
    """What the first process has. All have to ask, in the same order.

    Args:
        value: What this one has.
    """
    if num_ranks() == 1:
        return value
    held: list[Any] = [value]
    dist.broadcast_object_list(held, src=0)
    return held[0]


def anywhere(values: Sequence[bool]) -> list[bool]:
    """Whether any process says yes, question by question. All have to ask, in the same order.

    Args:
        values: What this one says; as many in every process.
    """
    return [any(said) for said in zip(*from_all(list(values)), strict=True)]


@contextmanager
def together() -> Iterator[None]:
    """End in all processes as it ends in one: none waits for another that has failed.

    What is inside must meet the other processes equally often, whether or not it fails.

    Raises:
        RunError: Another process has failed; its message is repeated.
    """
    fault: Exception | None = None
    try:
        yield
    except Exception as error:
        fault = error
    said = from_all(None if fault is None else f"{fault}" or type(fault).__name__)
    if fault is not None:
        raise fault
    for rank, message in enumerate(said):
        if message is not None:
            raise RunError(f"process {rank} of {len(said)} ended this one: {message}")
