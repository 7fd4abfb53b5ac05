"""The loss: a sum over supervised tokens, divided by their count over the whole step.

Logits are computed only where a label follows. Everything else would be thrown away.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from sightline.data import IGNORE_INDEX


class Supervised(NamedTuple):
    """Where the loss looks.

    Attributes:
        columns: (num_columns,) int64. Columns that predict a supervised token in any row.
        targets: (batch, num_columns) int64. The token after each column, `IGNORE_INDEX` where
            it is not supervised.
    """

    columns: torch.Tensor
    targets: torch.Tensor


def supervised_columns(labels: torch.Tensor) -> Supervised:
    """Columns whose next token is supervised, with those tokens.

    Args:
        labels: (batch, seq) int64, unshifted.

    >>> supervised_columns(torch.tensor([[-100, -100, 7, 8]]))
    Supervised(columns=tensor([1, 2]), targets=tensor([[7, 8]]))
    """
    shifted = labels[:, 1:]
    columns = (shifted != IGNORE_INDEX).any(dim=0).nonzero().squeeze(1)
    return Supervised(columns, shifted[:, columns])


def token_loss(
    logits: torch.Tensor, targets: torch.Tensor, num_tokens: torch.Tensor | int
) -> torch.Tensor:
    """Cross-entropy in float32, summed over supervised tokens and divided by ``num_tokens``.

    Args:
        logits: (batch, num_columns, vocabulary), any float dtype.
        targets: (batch, num_columns) int64, `IGNORE_INDEX` where not supervised.
        num_tokens: Supervised tokens of the whole optimizer step, over accumulation and ranks.

    Returns:
        () float32.
    """
    total = nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORE_INDEX, reduction="sum"
    )
    # A step without a supervised token has the loss 0 and no gradient; 0 / 0 would be NaN.
    return total / torch.as_tensor(num_tokens, device=total.device).clamp(min=1)


def model_loss(
    model: nn.Module, inputs: dict[str, torch.Tensor], num_tokens: torch.Tensor | int | None
) -> tuple[torch.Tensor, int]:
    """Loss of one micro-batch.

    Args:
        model: The planned model.
        inputs: A batch of the collator.
        num_tokens: Supervised tokens of the whole step; None counts those of this batch.

    Returns:
        The loss, () float32, and the number of supervised tokens in this batch.
    """
    batch = {key: value for key, value in inputs.items() if key != "labels"}
    columns, targets = supervised_columns(inputs["labels"])
    own = int((targets != IGNORE_INDEX).sum())
    # An explicit False: with a cache, attention would not see where samples begin.
    outputs = model(**batch, logits_to_keep=columns, use_cache=False)
    return token_loss(outputs.logits, targets, own if num_tokens is None else num_tokens), own
