"""One gradient for a weight that is the head's and the token embedding's.

Autograd makes two of it, each as large as the vocabulary is long and the model wide, and adds them
up: in a small model more memory than all other gradients together. Here the head's gradient, which
is known first, is held until the embedding's backward pass has added the rows of its tokens to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.autograd.function import once_differentiable


class TiedGradient:
    """Where the head leaves the gradient of a tied weight for the embedding.

    Attributes:
        of_head: (num_classes, hidden_size) in the weight's dtype, once the head has gone backward;
            None before, and where the head left it to autograd.
    """

    def __init__(self) -> None:
        self.of_head: torch.Tensor | None = None

    def take(self) -> torch.Tensor | None:
        """The head's part, which nobody holds afterwards but the caller."""
        taken, self.of_head = self.of_head, None
        return taken


@contextmanager
def tied_embedding(embedding: Any, head: Any) -> Iterator[TiedGradient | None]:
    """Let an embedding's backward pass wait for the head's part of their common gradient.

    Args:
        embedding: The model's token embedding, called once inside.
        head: Its output head. `linear_loss` is to be told what this gives.

    Yields:
        None, and nothing is changed, where the weight is not a common one that trains, where one of
        the two is more than a plain layer, and where several processes train: what they share
        weights and gradients with looks at both.
    """
    if not _is_common(embedding, head):
        yield None
        return
    tied = TiedGradient()
    embedding.__dict__["forward"] = lambda ids: _Rows.apply(
        ids, embedding.weight, embedding.padding_idx, tied
    )
    try:
        yield tied
    finally:
        del embedding.__dict__["forward"]


def _is_common(embedding: Any, head: Any) -> bool:
    return (
        not (dist.is_available() and dist.is_initialized())
        and torch.is_grad_enabled()
        and type(embedding) is nn.Embedding
        and type(head) is nn.Linear
        and not {"forward"} & (vars(embedding).keys() | vars(head).keys())
        and embedding.weight is head.weight
        and embedding.weight.requires_grad
        and embedding.max_norm is None
        and not (embedding.scale_grad_by_freq or embedding.sparse)
    )


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        ids: torch.Tensor,
        weight: torch.Tensor,
        padding_idx: int | None,
        tied: TiedGradient,
    ) -> torch.Tensor:
        ctx.save_for_backward(ids)
        ctx.num_classes, ctx.padding_idx, ctx.tied = len(weight), padding_idx, tied
        return nn.functional.embedding(ids, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: torch.Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        [slope], [ids] = slopes, ctx.saved_tensors
        no_padding = -1 if ctx.padding_idx is None else ctx.padding_idx
        whole = ctx.tied.take()
        if whole is None:
            whole = _gradient(slope, ids, ctx.num_classes, no_padding)
        elif ids.is_meta:
            # An estimate: which tokens differ is not known, and they are few.
            pass
        else:
            # Each row once, so that the sum has one order on a GPU too.
            rows, place = torch.unique(ids, return_inverse=True)
            padding = (rows == no_padding).nonzero().flatten().tolist()
            own = _gradient(slope, place, len(rows), padding[0] if padding else -1)
            whole.index_add_(0, rows, own)
        return None, whole, None, None


def _gradient(slope: torch.Tensor, ids: torch.Tensor, num_rows: int, padding: int) -> torch.Tensor:
    return torch.ops.aten.embedding_dense_backward(slope, ids, num_rows, padding, False)
