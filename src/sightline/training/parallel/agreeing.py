"""What several processes say together. All of them have to ask, in the same order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch.distributed as dist

_T = TypeVar("_T")


def of_first(value: bool) -> bool:
    """What the first process says.

    Args:
        value: What this one would say.
    """
    held: list[Any] = [value]
    dist.broadcast_object_list(held, src=0)
    return bool(held[0])


def from_all(value: _T) -> list[_T]:
    """What every process says, in the order of their numbers.

    Args:
        value: What this one says.
    """
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def anywhere(values: Sequence[bool]) -> list[bool]:
    """Whether any process says yes, question by question.

    Args:
        values: What this one says; as many in every process.
    """
    return [any(said) for said in zip(*from_all(list(values)), strict=True)]
