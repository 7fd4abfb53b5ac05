"""A loss whose gradients are already known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable


class Known(NamedTuple):
    """A gradient of a loss.

    Attributes:
        of: What it is the gradient of; requires one.
        gradient: The same shape, float32 or wider. The backward pass writes into it.
    """

    of: torch.Tensor
    gradient: torch.Tensor


def with_gradients(loss: torch.Tensor, known: Sequence[Known]) -> torch.Tensor:
    """Join a loss to the graph, so that a backward pass gives the gradients that are known.

    Args:
        loss: () any float dtype, outside any graph.
        known: Its gradients; none where nothing requires one.

    Returns:
        () float32. What is done with it afterwards is differentiated as always. Its own backward
        pass runs once: the gradients are scaled where they lie.
    """
    if not known:
        return loss.float()
    return _Joined.apply(loss, [one.gradient for one in known], *(one.of for one in known))


class _Joined(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, loss: torch.Tensor, gradients: list[torch.Tensor], *of: torch.Tensor
    ) -> torch.Tensor:
        ctx.gradients = gradients
        ctx.dtypes = [one.dtype for one in of]
        return loss.to(torch.float32, copy=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *scales: torch.Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError(
                "the loss of the head goes backward a second time, but the first time has used up "
                "its gradients, which were computed together with it.\nCompute the loss again."
            )
        [scale] = scales
        # Nothing here holds on to them: a weight without a gradient takes its own as it is.
        scaled = [
            gradient.mul_(scale).to(dtype)
            for gradient, dtype in zip(gradients, ctx.dtypes, strict=True)
        ]
        return None, None, *scaled
