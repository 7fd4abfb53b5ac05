"""A loss whose gradients are already known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from sightline.model.head_loss.tied import TiedGradient


class Known(NamedTuple):
    """A gradient of a loss.

    Attributes:
        of: What it is the gradient of; requires one.
        gradient: The same shape, float32 or wider. The backward pass writes into it.
        left_to: Gets it instead of autograd; None leaves it to autograd.
    """

    of: torch.Tensor
    gradient: torch.Tensor
    left_to: TiedGradient | None = None


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
    return _Joined.apply(
        loss,
        [one.gradient for one in known],
        [one.left_to for one in known],
        *(one.of for one in known),
    )


class _Joined(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        loss: torch.Tensor,
        gradients: list[torch.Tensor],
        left_to: list[TiedGradient | None],
        *of: torch.Tensor,
    ) -> torch.Tensor:
        # Where autograd keeps what it keeps: whoever measures or moves that sees them.
        ctx.save_for_backward(*gradients)
        ctx.dtypes = [one.dtype for one in of]
        ctx.left_to = left_to
        ctx.is_used = False
        return loss.to(torch.float32, copy=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *scales: torch.Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        if ctx.is_used:
            raise RuntimeError(
                "the loss of the head goes backward a second time, but the first time has used up "
                "its gradients, which were computed together with it.\nCompute the loss again."
            )
        ctx.is_used = True
        [scale] = scales
        # A weight that has no gradient yet takes this one as it is, without a copy.
        scaled: list[torch.Tensor | None] = [
            gradient.mul_(scale).to(dtype)
            for gradient, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        for number, taker in enumerate(ctx.left_to):
            if taker is not None:
                taker.of_head, scaled[number] = scaled[number], None
        return None, None, None, *scaled
