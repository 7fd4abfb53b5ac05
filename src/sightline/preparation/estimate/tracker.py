"""A step on tensors without memory, every allocation written down.

Floating-point tensors are on the meta device: they have shapes and no memory. Token ids, positions,
masks and grids are real, on the CPU, because models read them: which tokens are images, how
attention is cut.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from sightline.preparation.estimate.kernels import VARLEN, VARLEN_BACKWARD
from sightline.preparation.estimate.timeline import Timeline

_aten = torch.ops.aten
_META = torch.device("meta")
# Whole numbers and masks beyond it have no values: an attention mask of every token by every token.
_MAX_REAL = 2**22
_INDEXING = (_aten.index, _aten.index_put, _aten.index_put_, _aten._unsafe_index)


class _Attention(NamedTuple):
    """How the operations of an attention are counted.

    Attributes:
        num_products: Matrix products: two forward; five backward, where the scores are computed
            again.
        query: Place of the queries among the arguments; the keys are behind them.
        borders: Place of the borders of segments; None where all tokens of a row are one.
    """

    num_products: int
    query: int
    borders: int | None = None

    def flops(self, args: tuple[Any, ...]) -> int:
        """Operations of a call: over all pairs of tokens, masked ones included."""
        query, key = args[self.query], args[self.query + 1]
        if self.borders is None:
            # (batch, heads, tokens, head_dim)
            pairs = query.shape[0] * query.shape[2] * key.shape[2]
        else:
            # (tokens, heads, head_dim)
            pairs = int(args[self.borders].diff().long().square().sum())
        return 2 * self.num_products * pairs * query.shape[1] * query.shape[-1]


_ATTENTION = {
    _aten._scaled_dot_product_flash_attention_for_cpu: _Attention(2, 0),
    _aten._scaled_dot_product_flash_attention: _Attention(2, 0),
    _aten._scaled_dot_product_efficient_attention: _Attention(2, 0),
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: _Attention(5, 1),
    _aten._scaled_dot_product_flash_attention_backward: _Attention(5, 1),
    _aten._scaled_dot_product_efficient_attention_backward: _Attention(5, 1),
    VARLEN: _Attention(2, 0, 3),
    VARLEN_BACKWARD: _Attention(5, 1, 6),
}


class Tracker(TorchDispatchMode):
    """Runs operations without computing, and tells a timeline what they allocate and free.

    Args:
        timeline: Told of every allocation.

    Attributes:
        flops: Floating-point operations of matrix products so far.
        calls: Operations that a device is told to do so far.
        counts_attention: Whether attention is counted; that of a vision tower is elsewhere.
    """

    def __init__(self, timeline: Timeline) -> None:
        super().__init__()
        self.flops = 0
        self.calls = 0
        self.counts_attention = True
        self._timeline = timeline
        self._numbers = itertools.count()
        self._known: dict[int, int | None] = {}

    def ignore(self, tensors: Iterable[torch.Tensor]) -> None:
        """These are counted elsewhere: weights, and gradients of an earlier pass."""
        for tensor in tensors:
            self._known[tensor.untyped_storage()._cdata] = None

    def number_of(self, tensor: torch.Tensor) -> int | None:
        """The name of a tensor's memory on the timeline; None where it is not on it."""
        return self._known.get(tensor.untyped_storage()._cdata)

    def watch(self, tensor: torch.Tensor) -> None:
        """Write down a tensor's memory, if it is new."""
        storage = tensor.untyped_storage()
        where = storage._cdata
        if where in self._known:
            return
        number = next(self._numbers)
        self._known[where] = number
        self._timeline.allocate(number, storage.nbytes())
        weakref.finalize(storage, self._freed, where, number)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """One operation. Overrides the mode's."""
        kwargs = kwargs or {}
        out = self._run(func, args, kwargs)
        self.calls += 1
        for tensor in _tensors(out):
            self.watch(tensor)
        self._count(func.overloadpacket, args, kwargs, out)
        return out

    def _freed(self, where: int, number: int) -> None:
        if self._known.get(where) == number:
            del self._known[where]
            self._timeline.free(number)

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = _tensors(args, kwargs)
        if not given:
            return _factory(func, args, kwargs)
        if all(tensor.device != _META for tensor in given):
            if not _too_large(given):
                return _real(func, args, kwargs)
        elif all(tensor.device == _META for tensor in given) and func not in _UNKNOWN_SHAPES:
            return func(*args, **kwargs)
        if func.overloadpacket in _INDEXING:
            args = (args[0], _as_numbers(args[1]), *args[2:])
        elif func in _UNKNOWN_SHAPES:
            return _UNKNOWN_SHAPES[func](*args, **kwargs)
        return func(*_mapped(args), **_mapped(kwargs))

    def _count(self, packet: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        if packet in _ATTENTION:
            if self.counts_attention:
                self.flops += _ATTENTION[packet].flops(args)
        elif packet in flop_registry:
            self.flops += int(flop_registry[packet](*args, **kwargs, out_val=out))


def _tensors(*values: Any) -> list[torch.Tensor]:
    """Those among the values and inside them."""
    # Called for every operation: no recursion, no generator.
    found: list[torch.Tensor] = []
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, tuple | list):
            waiting.extend(value)
        elif isinstance(value, dict):
            waiting.extend(value.values())
    return found


def _mapped(value: Any) -> Any:
    """The same with every real tensor on the meta device."""
    if isinstance(value, torch.Tensor):
        return value if value.device == _META else _without_values(value)
    if isinstance(value, tuple | list):
        return type(value)(_mapped(one) for one in value)
    if isinstance(value, dict):
        return {name: _mapped(one) for name, one in value.items()}
    if isinstance(value, torch.device):
        return _META
    return value


def _without_values(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=tensor.dtype, device=_META, requires_grad=False
    )


def _factory(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A tensor of nothing but numbers: whole ones are made with their values."""
    out = func(*args, **kwargs)
    if not isinstance(out, torch.Tensor) or out.device != _META:
        return out
    if out.is_floating_point() or out.numel() > _MAX_REAL:
        return out
    return func(*args, **{**kwargs, "device": torch.device("cpu")})


def _real(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An operation on real tensors; those that are to move to the device keep their values."""
    if kwargs.get("device") == _META and not args[0].is_floating_point():
        wanted = kwargs.get("dtype")
        if func is _aten._to_copy.default and wanted in (None, args[0].dtype):
            return args[0]
        kwargs = {**kwargs, "device": torch.device("cpu")}
    return func(*args, **kwargs)


def _too_large(tensors: list[torch.Tensor]) -> bool:
    if len(tensors) < 2:
        return tensors[0].numel() > _MAX_REAL
    try:
        shape = torch.broadcast_shapes(*(tensor.shape for tensor in tensors))
    except RuntimeError:
        return False
    return shape.numel() > _MAX_REAL


def _as_numbers(indices: Any) -> list[Any]:
    """Indices on the meta device; a mask as the places at which it is true."""
    found: list[Any] = []
    for index in indices:
        if isinstance(index, torch.Tensor) and index.dtype == torch.bool:
            places = index.nonzero()
            found.extend(_without_values(places[:, dim]) for dim in range(index.ndim))
        else:
            found.append(None if index is None else _mapped(index))
    return found


def _masked_select(tensor: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    shape = torch.broadcast_shapes(tensor.shape, mask.shape)
    count = int(mask.sum()) * (shape.numel() // mask.numel())
    return tensor.new_empty(count, device=_META)


def _masked_scatter_backward(
    grad: torch.Tensor, mask: torch.Tensor, sizes: list[int]
) -> torch.Tensor:
    return grad.new_empty(sizes, device=_META)


_UNKNOWN_SHAPES: dict[Any, Callable[..., torch.Tensor]] = {
    _aten.masked_select.default: _masked_select,
    _aten.masked_scatter_backward.default: _masked_scatter_backward,
}
