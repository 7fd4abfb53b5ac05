"""What is asked of tensors of which each process may hold a slice: norms, sums, whether any moves.

FSDP2 holds parameters and gradients as `DTensor`. Each process looks at its own slice, and one
reduction for all tensors together makes the answers those of the whole. Slices do not overlap, so
nothing is counted twice. What every process holds whole is not reduced: it is the same in all.

Every process has to ask for the same tensors in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from sightline.training.parallel.zero import gathered, is_partitioned


@torch.no_grad()
def whole(tensor: torch.Tensor) -> torch.Tensor:
    """All of a tensor, in every process.

    Args:
        tensor: A plain tensor, a `DTensor`, or a parameter of ZeRO 3.
    """
    held: Any = tensor.detach()
    if isinstance(held, DTensor):
        return held.full_tensor()
    return gathered(tensor) if is_partitioned(tensor) else held


def own_part(tensor: torch.Tensor) -> torch.Tensor:
    """What this process holds of a tensor, sharing its memory.

    Args:
        tensor: A plain tensor, or a `DTensor`.
    """
    held: Any = tensor.detach()
    return held.to_local() if isinstance(held, DTensor) else held


def over_slices(
    tensors: Sequence[torch.Tensor],
    of_slice: Callable[[torch.Tensor], torch.Tensor],
    reduction: Any = dist.ReduceOp.SUM,
) -> torch.Tensor:
    """A number, or several, of every tensor, joined over its slices.

    Args:
        tensors: Plain tensors or `DTensor`, at least one.
        of_slice: The numbers of one slice; a slice may be empty.
        reduction: How those of all slices of a tensor are joined.

    Returns:
        (num_tensors, ...), what `of_slice` gives for each.
    """
    found = torch.stack([of_slice(_visible(tensor)) for tensor in tensors])
    sharded = [number for number, one in enumerate(tensors) if isinstance(one, DTensor)]
    if sharded:
        mesh = _mesh(tensors[sharded[0]])
        assert all(_mesh(tensors[number]) == mesh for number in sharded), "one mesh shares them all"
        joined = found[sharded]
        dist.all_reduce(joined, op=reduction, group=mesh.get_group())
        found[sharded] = joined
    return found


def _visible(tensor: torch.Tensor) -> torch.Tensor:
    # ZeRO 3 has no slices by rows: its parameters are made whole, one at a time.
    return gathered(tensor) if is_partitioned(tensor) else own_part(tensor)


def norms(groups: Sequence[Sequence[torch.Tensor]]) -> torch.Tensor:
    """L2 norm of each group of tensors.

    Args:
        groups: Plain tensors or `DTensor`, such as the gradients of a tower; may be empty.

    Returns:
        (num_groups,) float32, on the device of the tensors.
    """
    tensors = [tensor for group in groups for tensor in group]
    if not tensors:
        return torch.zeros(len(groups))
    squares = over_slices(tensors, _square_sum)
    owners = [number for number, group in enumerate(groups) for _ in group]
    sums = torch.zeros(len(groups), dtype=squares.dtype, device=squares.device)
    sums.index_add_(0, torch.tensor(owners, device=squares.device), squares)
    return sums.sqrt().float()


def any_nonzero(tensors: Sequence[torch.Tensor]) -> list[bool]:
    """Whether each tensor has a value that is not zero; one that is not a number counts.

    Args:
        tensors: Plain tensors or `DTensor`.
    """
    if not tensors:
        return []
    found = over_slices(tensors, lambda one: one.any().int(), dist.ReduceOp.MAX)
    return [bool(value) for value in found.tolist()]


def largest(tensor: torch.Tensor) -> float:
    """The largest magnitude in a tensor; 0 where it is empty.

    Args:
        tensor: A plain tensor, or a `DTensor`.
    """

    def of_slice(part: torch.Tensor) -> torch.Tensor:
        return part.abs().max().float() if part.numel() else part.new_zeros(()).float()

    return float(over_slices([tensor], of_slice, dist.ReduceOp.MAX)[0])


def clip_gradients(gradients: Sequence[torch.Tensor], most: float) -> torch.Tensor:
    """Scale gradients down to a norm, in place.

    Args:
        gradients: Plain tensors or `DTensor`.
        most: The norm that they may have together.

    Returns:
        Their norm before, () float32.
    """
    [norm] = norms([gradients])
    # As torch's own: no branch, so that a GPU is not waited for.
    scale = (most / (norm + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        own_part(gradient).mul_(scale.to(gradient.dtype))
    return norm


def _square_sum(part: torch.Tensor) -> torch.Tensor:
    # One pass in float32 sums within blocks; the few sums of tensors are added in float64.
    return torch.linalg.vector_norm(part, dtype=torch.float32).double() ** 2


def _mesh(tensor: torch.Tensor) -> Any:
    assert isinstance(tensor, DTensor)
    return tensor.device_mesh
