"""What an output head is, and how it is called once for all tokens.

The arithmetic is put in the place of the head's own ``forward`` and the head is then called as a
module. Whatever stands around a forward pass so happens once a call, on every rank, however many
chunks there are: FSDP and ZeRO-3 bring the weights that they have distributed, and the hooks that
measure or watch a model see the head begin. Such hooks get the loss where they would get logits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeGuard

import torch
from peft.utils import ModulesToSaveWrapper
from torch import nn
from torch.distributed.tensor import DTensor

# Any other kind is a tensor that computes in its own way, a quantised one for example.
_PLAIN_TENSORS = (nn.Parameter, torch.Tensor)


def active_head(head: nn.Module) -> nn.Module:
    """The module that computes: where PEFT trains a copy of the head, that copy while it is on.

    Args:
        head: Output head of a model, whatever PEFT made of it.
    """
    while isinstance(head, ModulesToSaveWrapper):
        copies = head.modules_to_save
        active = list(head.active_adapters)
        is_on = (
            bool(active) and not head.disable_adapters and all(name in copies for name in active)
        )
        head = copies[active[0]] if is_on else head.original_module
    return head


def is_linear(head: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether a head computes with nothing but its weight and its bias.

    Does not look at the weight: before the head is called, ZeRO-3 would take a look for a use of it
    by the module around.

    Args:
        head: As `active_head` gives it.
    """
    return (
        isinstance(head, nn.Linear)
        # Quantised and adapted layers are linear layers with a forward of their own.
        and type(head).forward is nn.Linear.forward
        and "forward" not in vars(head)
    )


def is_plain_tensor(weight: torch.Tensor) -> bool:
    """Whether a weight computes as any tensor does.

    Args:
        weight: A head's, whose own hooks have run: FSDP's is a DTensor until then.
    """
    return type(weight) in _PLAIN_TENSORS


def has_parts_elsewhere(head: nn.Module) -> bool:
    """Whether something inside a head has no weights of its own until it is called itself.

    Args:
        head: A head whose own hooks have run.
    """
    return any(one.numel() == 0 or isinstance(one, DTensor) for one in head.parameters())


def call_instead(
    head: nn.Module, hidden: torch.Tensor, compute: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Call a head with another forward.

    Args:
        head: The head.
        hidden: (num_tokens, hidden_size). What it is called with.
        compute: Stands in for its forward.
    """
    own = vars(head)
    before = own.get("forward")
    own["forward"] = compute
    try:
        return head(hidden)
    finally:
        if before is None:
            del own["forward"]
        else:
            own["forward"] = before
