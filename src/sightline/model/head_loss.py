"""Head and loss on supervised tokens."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

HeadLoss = Literal["auto", "torch", "chunked", "liger"]


def head_loss(
    head: nn.Module, hidden: torch.Tensor, targets: torch.Tensor, *, kind: HeadLoss = "auto"
) -> torch.Tensor:
    """Sum of the cross-entropy."""
    return nn.functional.cross_entropy(head(hidden).float(), targets, reduction="sum")
