"""Where a value that is not finite came from.

A micro-batch that failed is run again, forward and back, with hooks on every module. The module
where it began is the innermost one whose inputs are finite and whose outputs are not; on the way
back, the innermost one whose outputs have finite gradients, and whose inputs or weights do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from sightline.training.parallel import own_part

Way = Literal["weights", "batch", "forward", "loss", "backward", "unknown"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Where the first value that is not finite was made.

    Attributes:
        way: In the weights, the batch, the forward pass, the loss or the backward pass; unknown
            where a second run was finite.
        name: Dotted name of the module, the weight or the tensor of the batch; empty where there
            is none.
        kind: Class of the module.
        dtype: Dtype of what went in.
        low: Lowest finite value of what went in.
        high: Highest.
    """

    way: Way
    name: str = ""
    kind: str = ""
    dtype: str = ""
    low: float = 0.0
    high: float = 0.0

    @property
    def text(self) -> str:
        """The origin as a sentence."""
        went_in = f"{self.dtype} from {self.low:.3g} to {self.high:.3g}"
        if not self.dtype:
            went_in = "whole numbers"
        match self.way:
            case "weights":
                return f"The weights are not finite themselves: {self.name} ({self.dtype})."
            case "batch":
                return f"The batch is not finite itself: {self.name} ({self.dtype})."
            case "forward":
                return (
                    f"It began in {self.name} ({self.kind}): its inputs are finite, {went_in}; "
                    "its output is not."
                )
            case "loss":
                return f"Every module's output is finite; the loss of logits {went_in} is not."
            case "backward":
                return (
                    f"The loss is finite. On the way back it began in {self.name} ({self.kind}): "
                    f"the gradients of its output are finite, {went_in}; those of its inputs or "
                    "weights are not."
                )
            case _:
                return "A second run of the same batch was finite, so its place is not known."


@dataclass(slots=True)
class _Flow:
    """What was seen of the tensors that go into or come out of a module."""

    is_finite: bool = True
    dtype: str = ""
    low: float = float("inf")
    high: float = float("-inf")

    # Without it, autograd would save tensors that checkpointing does not find on the way back.
    @torch.no_grad()
    def saw(self, tensor: torch.Tensor) -> None:
        if not tensor.is_floating_point() or not tensor.numel():
            return
        finite = torch.isfinite(tensor)
        self.is_finite = self.is_finite and bool(finite.all())
        self.dtype = str(tensor.dtype).removeprefix("torch.")
        if bool(finite.any()):
            values = tensor[finite].float()
            self.low = min(self.low, float(values.min()))
            self.high = max(self.high, float(values.max()))


@dataclass(slots=True)
class _Seen:
    """A module while the batch runs through it."""

    kind: str
    came_in: _Flow = field(default_factory=_Flow)
    went_out: _Flow = field(default_factory=_Flow)
    gradients_out: _Flow = field(default_factory=_Flow)
    gradients_in: _Flow = field(default_factory=_Flow)


def find_origin(
    model: nn.Module,
    batch: Mapping[str, Any],
    loss_of: Callable[[], torch.Tensor],
    anywhere: Callable[[bool], bool] = bool,
) -> Origin:
    """Run a micro-batch again and find the place. The gradients of the model are lost.

    Args:
        model: The model as it trains.
        batch: The micro-batch.
        loss_of: Computes its loss with the model, exactly as in training.
        anywhere: Whether any process has found it. Where weights are shared all have to go
            forward and back together; the others have then nothing to tell.
    """
    given = _given_origin(model, batch)
    if anywhere(given is not None):
        return given or Origin(way="unknown")
    model.zero_grad()
    watch = _Watch(model)
    try:
        loss = loss_of()
    finally:
        watch.let_go()
    origin = watch.forward_origin()
    if origin is None and not bool(torch.isfinite(loss).all()):
        logits = watch.whole.went_out
        origin = Origin(way="loss", dtype=logits.dtype, low=logits.low, high=logits.high)
    if anywhere(origin is not None):
        return origin or Origin(way="unknown")
    loss.backward()
    return watch.backward_origin() or Origin(way="unknown")


def _given_origin(model: nn.Module, batch: Mapping[str, Any]) -> Origin | None:
    """The weights, or the batch, where they are not finite before anything is computed."""
    ends = dict(_named_tensors(model))
    if (found := _first_bad(ends.items())) is not None:
        return Origin(way="weights", name=_plain(found), dtype=_dtype(ends[found]))
    tensors = {key: value for key, value in batch.items() if isinstance(value, torch.Tensor)}
    if (found := _first_bad(tensors.items())) is not None:
        return Origin(way="batch", name=found, dtype=_dtype(tensors[found]))
    return None


class _Watch:
    """Hooks on every module for one pass forward and back."""

    def __init__(self, model: nn.Module) -> None:
        self._modules = dict(model.named_modules())
        self._seen = {
            name: _Seen(kind=type(module).__name__) for name, module in self._modules.items()
        }
        self._handles: list[RemovableHandle] = []
        self._open: list[str] = []
        self._origin: str | None = None
        for name, module in self._modules.items():
            self._handles += [
                module.register_forward_pre_hook(self._entering(name), with_kwargs=True),
                module.register_forward_hook(self._leaving(name), with_kwargs=True),
            ]

    @property
    def whole(self) -> _Seen:
        """The model itself."""
        return self._seen[""]

    def let_go(self) -> None:
        """Remove the hooks on modules: checkpointing runs them again on the way back. The hooks
        on tensors stay until the tensors go."""
        for handle in self._handles:
            handle.remove()

    def forward_origin(self) -> Origin | None:
        if self._origin is None:
            return None
        return self._told(self._origin, "forward", self._seen[self._origin].came_in)

    def backward_origin(self) -> Origin | None:
        """The innermost module between finite and other gradients: a module stands before those
        in it. Of several it is the last of the model, where the way back begins."""
        found = [
            name
            for name, seen in self._seen.items()
            if seen.gradients_out.dtype
            and seen.gradients_out.is_finite
            and not (seen.gradients_in.is_finite and self._weights_are_finite(name))
        ]
        if not found:
            return None
        return self._told(found[-1], "backward", self._seen[found[-1]].gradients_out)

    def _weights_are_finite(self, name: str) -> bool:
        own = self._modules[name].parameters(recurse=False)
        return all(_is_finite(one.grad) for one in own if one.grad is not None)

    def _told(self, name: str, way: Way, flow: _Flow) -> Origin:
        return Origin(
            way=way,
            name=_plain(name) or "the model itself",
            kind=self._seen[name].kind,
            dtype=flow.dtype,
            low=flow.low,
            high=flow.high,
        )

    def _entering(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            seen = self._seen[name]
            self._open.append(name)
            for tensor in _tensors((args, kwargs)):
                seen.came_in.saw(tensor)
                if tensor.requires_grad:
                    tensor.register_hook(seen.gradients_in.saw)

        return hook

    def _leaving(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            seen = self._seen[name]
            for tensor in _tensors(output):
                seen.went_out.saw(tensor)
                if tensor.requires_grad:
                    tensor.register_hook(seen.gradients_out.saw)
            self._open.remove(name)
            if self._origin is None and not seen.went_out.is_finite:
                # What came in may be broken already: by what the module around it does between
                # its own modules.
                around = [name, *reversed(self._open)]
                self._origin = next(
                    (one for one in around if self._seen[one].came_in.is_finite), name
                )

        return hook


def _plain(name: str) -> str:
    """A name without what PEFT puts before it; `lora_A` inside it says where exactly."""
    return name.removeprefix("base_model.model.")


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """Every tensor in what a module takes or gives."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            # Masks that are added to attention scores may hold minus infinity, and rightly so.
            if "mask" not in str(key):
                yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _named_tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _first_bad(tensors: Iterable[tuple[str, torch.Tensor]]) -> str | None:
    return next((name for name, tensor in tensors if not _is_finite(tensor)), None)


def _is_finite(tensor: torch.Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(own_part(tensor)).all())


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
