"""Tensors that several processes share: made whole to be written, and read part by part.

FSDP2 holds a parameter, and the optimizer's moments of it, as a `DTensor`: each process has a
slice. A checkpoint holds them whole, so that any number of processes can read it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.distributed.tensor import DTensor, Replicate, Shard

from sightline.training.checkpoints.tensors import TensorFiles, TensorSpec


def spec_of(name: str, tensor: torch.Tensor) -> TensorSpec:
    """What a tensor is as a whole.

    Args:
        name: Its name in the file.
        tensor: A plain tensor, or a `DTensor`, whose shape is that over all processes.
    """
    return TensorSpec(name, tuple(tensor.shape), tensor.dtype)


@torch.no_grad()
def whole(tensor: torch.Tensor) -> torch.Tensor:
    """All of a tensor, in every process. All have to ask for it, in the same order.

    Args:
        tensor: A plain tensor, or a `DTensor`.
    """
    held: Any = tensor.detach()
    return held.full_tensor() if isinstance(held, DTensor) else held


@torch.no_grad()
def load_part(files: TensorFiles, name: str, tensor: torch.Tensor) -> None:
    """Fill what this process holds of a tensor; no other process is asked.

    Args:
        files: The files of a checkpoint.
        name: The tensor's name there.
        tensor: A plain tensor, or a `DTensor`; it is written in place.

    Raises:
        RunError: It has another shape in the checkpoint.
    """
    held: Any = tensor.to_local() if isinstance(tensor, DTensor) else tensor.detach()
    where = _part(tensor)
    if files.shape(name) != tuple(tensor.shape):
        # Slices of a tensor that is larger would fit by accident: this one does not.
        where = tuple(slice(None) for _ in files.shape(name))
    files.read_into(name, held, where)


def _part(tensor: torch.Tensor) -> tuple[slice, ...]:
    """The slices of the whole tensor that this process holds."""
    starts, lengths = [0] * tensor.ndim, list(tensor.shape)
    if isinstance(tensor, DTensor):
        place = tensor.device_mesh.get_coordinate()
        assert place is not None
        for number, placement in enumerate(tensor.placements):
            if isinstance(placement, Replicate):
                continue
            # Partial sums have no slice, and strided shards of tensor parallelism another one.
            assert type(placement) is Shard, placement
            dim, count = placement.dim, tensor.device_mesh.size(number)
            chunk = -(-lengths[dim] // count)
            begin = min(chunk * place[number], lengths[dim])
            starts[dim] += begin
            lengths[dim] = min(chunk, lengths[dim] - begin)
    return tuple(
        slice(start, start + length) for start, length in zip(starts, lengths, strict=True)
    )
