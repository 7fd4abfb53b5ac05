"""The loss: a sum over supervised tokens, divided by their count over the whole step.

Logits are computed only where a label follows. Everything else would be thrown away.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sightline.data import IGNORE_INDEX
from sightline.model import Segments, Supervised

Batch = dict[str, Any]

_NOT_FOR_THE_MODEL = ("labels", "supervised", "targets", "cu_seqlens", "longest")


def supervised_tokens(labels: torch.Tensor) -> Supervised:
    """Tokens that predict a supervised one, with those that they predict.

    Args:
        labels: (batch, seq) int64, unshifted.

    >>> supervised_tokens(torch.tensor([[-100, -100, 7, 8], [-100, 9, -100, -100]]))
    Supervised(tokens=tensor([1, 2, 4]), targets=tensor([7, 8, 9]))
    """
    shifted = torch.full_like(labels, IGNORE_INDEX)
    shifted[:, :-1] = labels[:, 1:]
    flat = shifted.flatten()
    found = (flat != IGNORE_INDEX).nonzero().squeeze(1)
    return Supervised(found, flat[found])


def model_loss(
    model: nn.Module, inputs: Batch, num_tokens: torch.Tensor | int | None
) -> tuple[torch.Tensor, int]:
    """Loss of one micro-batch.

    Args:
        model: The planned model, after `sightline.model.return_losses`.
        inputs: A batch of the collator, or of `sightline.training.steps`, which finds
            ``supervised`` and ``targets`` before the batch is on a GPU that it would wait for.
        num_tokens: Supervised tokens of the whole step, over all ranks; None counts those of
            this batch.

    Returns:
        The loss, () float32, and the number of supervised tokens in this batch.
    """
    batch = {key: value for key, value in inputs.items() if key not in _NOT_FOR_THE_MODEL}
    if "supervised" in inputs:
        supervised = Supervised(inputs["supervised"], inputs["targets"])
    else:
        supervised = supervised_tokens(inputs["labels"])
    own = len(supervised.targets)
    borders = inputs.get("cu_seqlens")
    segments = Segments.of(borders, inputs.get("longest")) if borders is not None else None
    total = model(**batch, supervised=supervised, segments=segments)
    # A step without a supervised token has the loss 0 and no gradient; 0 / 0 would be NaN.
    count = torch.as_tensor(own if num_tokens is None else num_tokens, device=total.device)
    return total / count.clamp(min=1), own
