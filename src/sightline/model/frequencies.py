"""Rotary frequencies stay float32, whatever a model is cast to.

In bf16 a token at position 4096 turns up to 4.7 radians too far, and nothing says so. Loading with
``dtype=`` leaves them alone; ``.to(dtype)``, ``.bfloat16()`` and ``.half()`` round them, and
DeepSpeed before 0.19.2 calls ``.bfloat16()`` on the model that it trains (DeepSpeed#8066).
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MethodType
from typing import Any

import torch
from torch import nn

from sightline.errors import ModelError

_TABLES = ("inv_freq", "original_inv_freq")


def hold_frequencies(model: nn.Module) -> None:
    """Let no cast of the model reach its frequencies; moves to another device do.

    Args:
        model: A model that has just been loaded. Frequencies that are rounded already stay so, and
            are refused when it is called.
    """
    for _, module in _rotary_modules(model):
        # Set past nn.Module, which keeps only modules and tensors. Bound, so that a copy of the
        # model holds its own.
        object.__setattr__(module, "_apply", MethodType(_apply_but_cast, module))


def refuse_rounded_frequencies(model: nn.Module) -> None:
    """Refuse a model whose frequencies were rounded when it was cast after loading.

    Raises:
        ModelError: Names the module and the dtype.
    """
    for name, module in _rotary_modules(model):
        dtype = module.inv_freq.dtype
        if dtype != torch.float32:
            kind = str(dtype).removeprefix("torch.")
            raise ModelError(
                f"{name}: the rotary frequencies are {kind}: the model was cast after it was "
                "loaded, which moves its positions by radians in long texts. Load it with "
                f"dtype=torch.{kind} instead, which leaves them as they are."
            )


def _rotary_modules(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, module in model.named_modules():
        if isinstance(getattr(module, "inv_freq", None), torch.Tensor):
            yield name, module


def _apply_but_cast(self: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
    before = {name: getattr(self, name, None) for name in _TABLES}
    type(self)._apply(self, *args, **kwargs)
    for name, table in before.items():
        after = getattr(self, name, None)
        if table is not None and after is not None and after.dtype != table.dtype:
            setattr(self, name, table.to(after.device))
    return self
