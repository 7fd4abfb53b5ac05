"""Head and loss by the kernels of liger-kernel, an extra for GPUs.

Checked against its releases 0.6.2 to 0.8.2. What it does otherwise than autograd is mended here:
it gives no gradient to a weight below which nothing trains, casts the weight once a chunk under
autocast, and has no answer where there are no tokens.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from sightline.errors import ConfigError
from sightline.model.head_loss.chunked import linear_loss

INSTEAD = "or set training.head_loss: auto."
_NUM_TOKENS = 64
# Largest relative difference of the loss, and of the gradient's norm, by the dtype of the logits.
_TOLERANCES = {
    torch.float32: (1e-5, 1e-4),
    torch.bfloat16: (1e-3, 2e-2),
    torch.float16: (1e-3, 5e-3),
}
_agreed: set[tuple[Any, ...]] = set()


def refuse_missing(device: torch.device) -> None:
    """Refuse a machine that cannot run it.

    Args:
        device: Where the model is to run.

    Raises:
        ConfigError: It is not installed, or there is no GPU. Says what to do.
    """
    if find_spec("liger_kernel") is None:
        raise ConfigError(
            "training.head_loss is liger, but liger-kernel is not installed.\n"
            f"Install it with pip install 'sightline[liger]', {INSTEAD}"
        )
    if device.type != "cuda":
        raise ConfigError(
            f"training.head_loss is liger, but its kernels run on a GPU, and this run is on "
            f"{device.type}.\nTake a machine with a GPU, {INSTEAD}"
        )


def liger_loss(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
) -> torch.Tensor:
    """Sum of the cross-entropy of a linear head. The first of a kind is compared with our own.

    Args:
        hidden: (num_tokens, hidden_size) any float dtype, on a GPU.
        weight: (num_classes, hidden_size).
        bias: (num_classes,); None where there is none.
        targets: (num_tokens,) int64.

    Returns:
        () float32.

    Raises:
        ConfigError: It cannot run here, or gives something else.
    """
    refuse_missing(hidden.device)
    if len(hidden) == 0:
        return linear_loss(hidden, weight, bias, targets)
    with torch.no_grad():
        dtype = nn.functional.linear(hidden[:0], weight[:0]).dtype
    with torch.autocast(hidden.device.type, enabled=False):
        given = hidden.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
        kind = (hidden.device, dtype, *weight.shape, bias is None)
        if kind not in _agreed:
            compare(*given, targets)
            _agreed.add(kind)
        return _fused(*given, targets)


def compare(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
) -> None:
    """Compare it with `linear_loss` on the first tokens.

    Args:
        hidden: As in `liger_loss`, all in one dtype.
        weight: As in `liger_loss`.
        bias: As in `liger_loss`.
        targets: As in `liger_loss`.

    Raises:
        ConfigError: The loss or its gradient differs by more than the dtype explains.
    """
    found = []
    for compute in (_fused, linear_loss):
        few = hidden[:_NUM_TOKENS].detach().clone().requires_grad_()
        own = None if bias is None else bias.detach()
        with torch.enable_grad():
            loss = compute(few, weight.detach(), own, targets[:_NUM_TOKENS])
            # Scaled, as the loss of a step is.
            (loss / _NUM_TOKENS).backward()
        assert few.grad is not None
        found.append((loss.detach().double(), few.grad.double()))
    (loss, gradient), (own_loss, own_gradient) = found
    off = float((loss - own_loss).abs() / own_loss.abs().clamp(min=1e-12))
    off_gradient = float((gradient - own_gradient).norm() / own_gradient.norm().clamp(min=1e-12))
    most, most_gradient = _TOLERANCES.get(hidden.dtype, _TOLERANCES[torch.float32])
    # Not the other way about: NaN is never within.
    if not (off <= most and off_gradient <= most_gradient):
        raise ConfigError(
            f"training.head_loss is liger, but on the first {len(hidden[:_NUM_TOKENS])} tokens its "
            f"loss is {float(loss):.6g} where {float(own_loss):.6g} is right (off by {off:.1e}, "
            f"{most:.0e} allowed in {str(hidden.dtype).removeprefix('torch.')}), and its gradient "
            f"is off by {off_gradient:.1e} ({most_gradient:.0e} allowed).\n"
            f"Install another release of liger-kernel, {INSTEAD}"
        )


def _fused(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
) -> torch.Tensor:
    # Not among the packages of development: an import statement could not be checked.
    functional: Any = import_module("liger_kernel.transformers.functional")
    if torch.is_grad_enabled() and not hidden.requires_grad:
        # It looks at the input alone to know whether anything is differentiated.
        hidden = hidden.detach().requires_grad_(weight.requires_grad)
    loss = functional.liger_fused_linear_cross_entropy(
        hidden, weight, targets, bias=bias, reduction="sum", accum_dtype=torch.float32
    )
    return loss.float()
