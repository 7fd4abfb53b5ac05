"""Head and loss, by the way that is wanted, or the best that there is."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

from sightline.errors import ConfigError
from sightline.model.head_loss.chunked import chunk_length, linear_loss
from sightline.model.head_loss.heads import (
    active_head,
    call_instead,
    has_parts_elsewhere,
    is_linear,
    is_plain_tensor,
)
from sightline.model.head_loss.liger import INSTEAD, liger_loss, refuse_missing
from sightline.model.head_loss.module import module_loss, whole_loss
from sightline.model.head_loss.tied import TiedGradient

HeadLoss = Literal["auto", "torch", "chunked", "liger"]

# Came with torch 2.13 or later; 2.11 has none.
_HAS_OPERATION = hasattr(nn.functional, "linear_cross_entropy")


def refuse_unusable(kind: HeadLoss, device: torch.device) -> None:
    """Refuse a way that this machine does not have, before anything is loaded.

    Args:
        kind: ``training.head_loss``.
        device: Where the model is to run.

    Raises:
        ConfigError: A package, a release of torch or a GPU is missing. Says what to do.
    """
    if kind == "liger":
        refuse_missing(device)
    if kind == "torch" and not _HAS_OPERATION:
        raise ConfigError(
            f"training.head_loss is torch, but torch {torch.__version__} has no "
            f"linear_cross_entropy; 2.15 has.\nInstall a newer torch, {INSTEAD}"
        )


def head_loss(
    head: nn.Module,
    hidden: torch.Tensor,
    targets: torch.Tensor,
    *,
    kind: HeadLoss = "auto",
    tied: TiedGradient | None = None,
) -> torch.Tensor:
    """Sum of the cross-entropy of tokens, without the logits of all of them at once.

    To be called inside the model's forward. The head is called as a module, once: its hooks run,
    and get this loss for an output. Without tokens the loss is 0, and what trains gets gradients
    of zeros. Gradients are computed with the loss, so one backward pass is all it has.

    Args:
        head: The output head, plain or with anything that PEFT made of it.
        hidden: (num_tokens, hidden_size) any float dtype. What the head predicts from.
        targets: (num_tokens,) int64. What it should predict; all count.
        kind: ``chunked``: ours, which is what ``auto`` takes. ``torch``: torch's own operation,
            in float32 alone. ``liger``: liger-kernel's, on a GPU.
        tied: Of `tied_embedding`, in which the hidden states were computed; None of none.

    Returns:
        () float32.

    Raises:
        ConfigError: ``torch`` or ``liger`` is asked for, and cannot compute this.

    Reference: `transformers.loss.loss_utils.ForCausalLMLoss`;
        tests/parity/test_head_loss_transformers.py.
    """
    head = active_head(head)
    forward, linear = head.forward, head if is_linear(head) else None

    def compute(given: torch.Tensor) -> torch.Tensor:
        if linear is not None and is_plain_tensor(linear.weight):
            return _of_linear(linear, given, targets, kind, tied)
        return _of_module(head, forward, given, targets, kind)

    return call_instead(head, hidden, compute)


def _of_linear(
    head: nn.Linear,
    hidden: torch.Tensor,
    targets: torch.Tensor,
    kind: HeadLoss,
    tied: TiedGradient | None,
) -> torch.Tensor:
    # An estimate has no device, and has to see the logits; without tokens, only ours has an answer.
    if hidden.is_meta or len(hidden) == 0 or kind in ("auto", "chunked"):
        return linear_loss(hidden, head.weight, head.bias, targets, tied=tied)
    if kind == "liger":
        return liger_loss(hidden, head.weight, head.bias, targets)
    return _torch_loss(hidden, head.weight, head.bias, targets)


def _torch_loss(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
) -> torch.Tensor:
    """By torch's own operation, in float32.

    It is not what ``auto`` takes. In float32 it needs as much memory and 2 to 3 % more time on a
    CPU (benchmarks/head_loss.py), and on a GPU it adds to the weight's gradient in no fixed order.
    In bfloat16 torch 2.15 rounds the loss, and the weight's gradient after every chunk, to the
    dtype of the input; on a CPU it computes in float32 after all. Autocast does not know it.
    tests/parity/test_head_loss_torch.py fails when it returns the loss in float32.
    """
    refuse_unusable("torch", hidden.device)
    with torch.no_grad():
        dtype = nn.functional.linear(hidden[:0], weight[:0]).dtype
    if dtype.itemsize < 4:
        name = str(dtype).removeprefix("torch.")
        raise ConfigError(
            f"training.head_loss is torch, whose operation would round the loss to {name}, the "
            f"dtype in which this run computes.\nSet training.precision: fp32, {INSTEAD}"
        )
    # Its own choice, from the ratio of the sides, is 2 tokens a chunk where 300 of 151,936 classes
    # are supervised: the weight would be read, and its gradient written, 150 times.
    length = chunk_length(len(hidden), weight.shape[0], weight.shape[1], dtype.itemsize)
    return nn.functional.linear_cross_entropy(
        hidden,
        weight,
        targets,
        linear_bias=bias,
        reduction="sum",
        options=nn.LinearCrossEntropyOptions(batch_chunk_size=length),
    ).float()


def _of_module(
    head: nn.Module, forward: Any, hidden: torch.Tensor, targets: torch.Tensor, kind: HeadLoss
) -> torch.Tensor:
    if kind in ("torch", "liger"):
        raise ConfigError(
            f"training.head_loss is {kind}, which takes a plain linear head, and this one is a "
            f"{type(head).__module__}.{type(head).__qualname__}.\n"
            "Leave the head out of LoRA and of quantisation, or set training.head_loss: auto."
        )
    if has_parts_elsewhere(head):
        # ZeRO-3 has all ranks together gather the weights of what is inside, at every call; ranks
        # have different numbers of chunks.
        return whole_loss(forward, hidden, targets).float()
    return module_loss(forward, hidden, targets)
