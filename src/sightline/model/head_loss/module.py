"""Any head and its loss chunk by chunk, through the module itself: LoRA, DoRA, quantised weights.

Each chunk goes forward and back before the next begins, as in `chunked`, but through autograd:
nothing has to be known of the head. What its graph ends in is what gets a gradient.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from sightline.model.head_loss.chunked import MIB
from sightline.model.head_loss.gradients import Known, with_gradients

# Here autograd holds up to four tensors of this size at once. 55 tokens of 151,936 classes.
_LOGITS = 32 * MIB


def module_loss(
    forward: Callable[[torch.Tensor], torch.Tensor], hidden: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Sum of the cross-entropy behind any head.

    A head that draws random numbers, for dropout, draws them once for each chunk.

    Args:
        forward: (num_tokens, hidden_size) to (num_tokens, num_classes).
        hidden: (num_tokens, hidden_size) any float dtype.
        targets: (num_tokens,) int64.

    Returns:
        () float32.

    Reference: `whole_loss`; tests/unit/model/test_head_loss_adapters.py.
    """
    num_classes = forward(hidden.detach()[:0]).shape[1]
    length = max(_LOGITS // (4 * num_classes), 1)
    needs_hidden = torch.is_grad_enabled() and hidden.requires_grad
    found: dict[int, Known] = {}
    losses, below = [], []
    # Without tokens there is one chunk of none: all that trains gets a gradient, of zeros. DDP and
    # FSDP wait for it.
    for rows, target in zip(hidden.detach().split(length), targets.split(length), strict=True):
        chunk = rows.detach().requires_grad_(needs_hidden)
        # As a leaf, torch's counters of operations could not follow it through autograd.grad.
        loss = whole_loss(forward, chunk.view_as(chunk), target)
        if loss.requires_grad:
            _send_back(loss, chunk, found)
        if needs_hidden:
            below.append(found.pop(id(chunk)).gradient)
        losses.append(loss.detach())
    known = [*found.values()]
    if needs_hidden:
        known.append(Known(hidden, torch.cat(below)))
    return with_gradients(torch.stack(losses).sum(), known)


def whole_loss(
    forward: Callable[[torch.Tensor], torch.Tensor], hidden: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """The same with all logits at once, and its graph.

    Args:
        forward: As in `module_loss`.
        hidden: As in `module_loss`.
        targets: As in `module_loss`.
    """
    logits = forward(hidden)
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return nn.functional.cross_entropy(wide, targets, reduction="sum")


def _send_back(loss: torch.Tensor, chunk: torch.Tensor, found: dict[int, Known]) -> None:
    """Add the gradients of a chunk to those that are known, by identity."""
    leaves = _leaves(loss)
    if chunk.requires_grad and all(one is not chunk for one in leaves):
        leaves.append(chunk)
    gradients = torch.autograd.grad(loss, leaves, materialize_grads=True)
    for leaf, gradient in zip(leaves, gradients, strict=True):
        if id(leaf) in found:
            found[id(leaf)].gradient.add_(gradient)
        else:
            wide = torch.promote_types(gradient.dtype, torch.float32)
            found[id(leaf)] = Known(leaf, gradient.to(wide, copy=True))


def _leaves(loss: torch.Tensor) -> list[torch.Tensor]:
    """What the graph of a loss ends in, in the order in which it is met."""
    leaves: list[torch.Tensor] = []
    waiting, met = [loss.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in met:
            continue
        met.add(node)
        if node.name() == "torch::autograd::AccumulateGrad":
            leaves.append(node.variable)  # pyright: ignore[reportAttributeAccessIssue]
        waiting += [before for before, _ in node.next_functions]
    return leaves
