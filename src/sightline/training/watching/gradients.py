"""Gradient norms and learning rates by tower."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from sightline.training.parallel import norms

TowerParameters = Mapping[str, Sequence[nn.Parameter]]
"""The parameters of each tower that train in any stage."""


def gradient_norms(towers: TowerParameters) -> dict[str, float]:
    """L2 norm of the gradients of each tower, as they are now.

    A tower of which nothing requires a gradient now is left out; one that should have gradients
    and got none has 0. All norms leave the device in one transfer.

    Args:
        towers: Parameters by tower.
    """
    found: dict[str, list[torch.Tensor]] = {}
    for tower, parameters in towers.items():
        training = [parameter for parameter in parameters if parameter.requires_grad]
        if training:
            found[tower] = [one.grad for one in training if one.grad is not None]
    return dict(zip(found, norms(list(found.values())).tolist(), strict=True))


def before_clipping(norms: Mapping[str, float], total: float) -> dict[str, float]:
    """Norms by tower as they were before clipping scaled all gradients alike.

    Args:
        norms: Norms after clipping.
        total: Norm of all gradients before clipping, which the Trainer logs as ``grad_norm``.

    >>> before_clipping({"vision": 0.6, "language": 0.8}, 5.0)
    {'vision': 3.0, 'language': 4.0}
    """
    clipped = math.hypot(*norms.values())
    if clipped == 0 or not math.isfinite(clipped):
        return dict(norms)
    return {tower: norm / clipped * total for tower, norm in norms.items()}


def learning_rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """The highest learning rate of each tower of which something trains now.

    Args:
        optimizer: Its groups name their ``tower``.
    """
    rates: dict[str, float] = {}
    for group in optimizer.param_groups:
        if any(parameter.requires_grad for parameter in group["params"]):
            tower = group["tower"]
            rates[tower] = max(rates.get(tower, 0.0), float(group["lr"]))
    return rates
