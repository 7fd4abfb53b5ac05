"""What a device's own kernels do, on tensors that have no device.

On the meta device ``scaled_dot_product_attention`` is spelled out with a matrix of every token by
every token, there is no autocast, and segments do not go to the variable-length kernel. All of it
decides memory, so calls are sent where CPU and GPU send them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from torch.nn.attention import varlen
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from sightline.preparation.estimate.devices import Device

VARLEN = torch.ops.torch_attn._varlen_attn
VARLEN_BACKWARD = torch.ops.torch_attn._varlen_attn_backward
"""The variable-length kernel of torch, forward and backward."""

_aten = torch.ops.aten
_IS_CUDA: Any = torch.Tensor.is_cuda
# Of torch's lists for autocast, what these models call.
_LOWERED: frozenset[Callable[..., Any]] = frozenset(
    {
        functional.linear,
        functional.conv3d,
        functional.conv2d,
        torch.conv3d,
        torch.matmul,
        torch.Tensor.matmul,
        torch.Tensor.__matmul__,
        torch.bmm,
        torch.mm,
    }
)
_RAISED_ON_GPU: frozenset[Callable[..., Any]] = frozenset(
    {
        functional.layer_norm,
        functional.softmax,
        functional.cross_entropy,
        torch.pow,
        torch.Tensor.pow,
        torch.Tensor.__pow__,
        torch.sum,
        torch.Tensor.sum,
        torch.norm,
        torch.linalg.norm,
    }
)


class Kernels(TorchFunctionMode):
    """Sends attention to the kernel that the device would use, and casts as autocast does.

    Args:
        device: The device.
        autocast: Whether forward runs in bf16 autocast.
    """

    def __init__(self, device: Device, *, autocast: bool) -> None:
        super().__init__()
        self._device = device
        self.autocasts = autocast
        self._cast: Any = WeakTensorKeyDictionary()
        self.keeps_casts = True

    def forget_casts(self) -> None:
        """The autocast region ends: casts of weights that are not needed any more go."""
        self._cast.clear()
        self.keeps_casts = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """One call. Overrides the mode's."""
        kwargs = kwargs or {}
        if func == _IS_CUDA.__get__:
            return self._device.is_gpu
        if self.autocasts:
            args, kwargs = self._autocasted(func, args, kwargs)
        if func is functional.scaled_dot_product_attention:
            return self._attention(func, *args, **kwargs)
        return func(*args, **kwargs)

    def _autocasted(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if func in _LOWERED or func is functional.scaled_dot_product_attention:
            dtype = torch.bfloat16
        elif func in _RAISED_ON_GPU and self._device.is_gpu:
            dtype = torch.float32
        else:
            return args, kwargs
        return (
            tuple(self._as(value, dtype) for value in args),
            {name: self._as(value, dtype) for name, value in kwargs.items()},
        )

    def _as(self, value: Any, dtype: torch.dtype) -> Any:
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            return value
        if value.dtype == dtype:
            return value
        if not (value.is_leaf and value.requires_grad and self.keeps_casts):
            return value.to(dtype)
        # Autocast casts a weight that trains once a forward pass.
        if value not in self._cast:
            self._cast[value] = value.to(dtype)
        return self._cast[value]

    def _attention(
        self,
        func: Callable[..., Any],
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> torch.Tensor:
        """As torch chooses among its kernels: ``sdp_utils_cpp.cpp`` and ``sdp_utils.cpp``."""
        bias = attn_mask
        if bias is not None and bias.dtype == torch.bool:
            zero = torch.zeros((), dtype=query.dtype, device="meta")
            bias = torch.where(bias.to("meta"), zero, zero)
        if not self._device.is_gpu:
            return _aten._scaled_dot_product_flash_attention_for_cpu(
                query, key, value, dropout_p, is_causal, attn_mask=bias, scale=scale
            )[0]
        has_flash = self._device.has_flash and query.dtype != torch.float32
        if has_flash and bias is None:
            return _aten._scaled_dot_product_flash_attention(
                query, key, value, dropout_p, is_causal, False, scale=scale
            )[0]
        if enable_gqa:
            # The memory-efficient kernel has no shared heads: torch spells attention out.
            return func(
                query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=True
            )
        if bias is not None:
            bias = bias.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
        return _aten._scaled_dot_product_efficient_attention(
            query, key, value, bias, True, dropout_p, is_causal, scale=scale
        )[0]


@contextmanager
def variable_length() -> Iterator[None]:
    """Let torch's variable-length attention run without a GPU.

    It asks the GPU which of two kernels it has. They keep the same: queries, keys, values, what
    comes out, and the sums of the softmax.
    """
    module: Any = varlen
    before = module.varlen_attn
    module.varlen_attn = _varlen_attn
    try:
        yield
    finally:
        module.varlen_attn = before


def _varlen_attn(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
) -> torch.Tensor:
    """(tokens, heads, head_dim), each."""
    is_causal = window_size == (-1, 0)
    return VARLEN(
        query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, is_causal, scale, list(window_size)
    )[0]
