"""How far the weights have moved since the run began, by tower and block.

LoRA: the norm of the update that merging would add, ``||scale * B @ A||``, against that of the
weight it is added to. ``||B A||^2 = trace((B^T B)(A A^T))``, so that only r x r matrices are
made. DoRA's update also scales every row; its norm follows from the same products and ``W A^T``.

Full weights: at most `SAMPLED_VALUES` values of each tensor, spread evenly, are kept in float32
on the CPU; change and norm are those of the sample, each tensor counted by its true size. It is an
estimate, and a poor one for a token embedding, of which a run moves only the rows that it meets.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from peft.tuners.lora import LoraLayer
from torch import nn

from sightline.model import plain_weight
from sightline.training.parallel import is_shared_out, norms, whole
from sightline.training.ranks import from_first

SAMPLED_VALUES = 16_384
TIME_SHARE = 0.01
"""Measuring may take this share of the time of training."""

_ADAPTER = "default"
_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class _Squares:
    """Squared norms of one tensor: of its change, and of what it was."""

    change: float
    start: float


class _AdaptedWeight:
    """A weight under LoRA."""

    def __init__(self, layer: LoraLayer) -> None:
        self._layer = layer
        self._start: float | None = None

    @torch.no_grad()
    def squares(self) -> _Squares:
        layer: Any = self._layer
        first, second = _factors(layer)
        scale = float(layer.scaling[_ADAPTER])
        is_dora = bool(layer.use_dora.get(_ADAPTER))
        if self._start is None or is_dora:
            weight = _as_matrix(layer)
            self._start = float(norms([[weight]])) ** 2
            if is_dora:
                magnitude = whole(layer.lora_magnitude_vector[_ADAPTER].weight).float()
                change = _dora_square(whole(weight).float(), first, second, scale, magnitude)
                return _Squares(change, self._start)
        product = (second.T @ second).double() * (first @ first.T).double()
        return _Squares(scale**2 * max(float(product.sum()), 0.0), self._start)


class _FullWeight:
    """A weight that trains itself, sampled."""

    def __init__(self, parameter: nn.Parameter) -> None:
        self._parameter = parameter
        self._start = _sample(parameter)
        # Before ZeRO 3 takes the weight away.
        self._num_values = parameter.numel()

    def squares(self) -> _Squares:
        now = _sample(self._parameter)
        share = self._num_values / max(now.numel(), 1)
        change = float(torch.linalg.vector_norm(now - self._start)) ** 2
        return _Squares(share * change, share * float(torch.linalg.vector_norm(self._start)) ** 2)


class WeightChange:
    """Relative change of everything that trains in any stage, since this object was made.

    It is made before a checkpoint is loaded, so that a resumed run measures from its true start.

    Args:
        model: The planned model.
        parameters: Plain name and tensor of every weight that trains in full, in any stage.
        place_of: Place of a plain name, such as `sightline.tuning.Place`.
        clock: Seconds, for tests.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: Sequence[tuple[str, nn.Parameter]],
        place_of: Callable[[str], Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._weights: list[tuple[Any, _AdaptedWeight | _FullWeight]] = [
            (place_of(name), _FullWeight(parameter)) for name, parameter in parameters
        ]
        for name, module in model.named_modules():
            if isinstance(module, LoraLayer):
                plain = name.removeprefix("base_model.model.")
                self._weights.append((place_of(plain), _AdaptedWeight(module)))
        self._last_end = -math.inf
        self._cost = 0.0
        self._model = model

    def by_tower(self, *, always: bool = False) -> dict[str, float] | None:
        """The change of each tower; None where it is too early to spend time on it again.

        Args:
            always: Measure whatever it costs.
        """
        began = self._clock()
        is_early = self._cost > TIME_SHARE * (began - self._last_end)
        if is_shared_out(self._model):
            # All processes measure, or none: clocks are not the same.
            is_early = from_first(is_early)
        if is_early and not always:
            return None
        changes = self.by(lambda place: place.tower)
        self._last_end = self._clock()
        self._cost = self._last_end - began
        return changes

    def by(self, group: Callable[[Any], _Key]) -> dict[_Key, float]:
        """The change of every group of places: norm of the change over norm at the start.

        Args:
            group: What a place is counted under.
        """
        sums: dict[_Key, tuple[float, float]] = {}
        for place, weight in self._weights:
            squares = weight.squares()
            change, start = sums.get(group(place), (0.0, 0.0))
            sums[group(place)] = (change + squares.change, start + squares.start)
        return {key: _ratio(change, start) for key, (change, start) in sums.items()}


def _ratio(change: float, start: float) -> float:
    """Relative change; against 1 where everything began at zero, as biases may."""
    return math.sqrt(change / start) if start > 0 else math.sqrt(change)


def _factors(layer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """A as (r, in) and B as (out, r), float32, of a linear layer, a convolution or an embedding."""
    if _ADAPTER in layer.lora_embedding_A:
        first, second = layer.lora_embedding_A[_ADAPTER], layer.lora_embedding_B[_ADAPTER]
        return whole(first).float(), whole(second).float()
    first, second = layer.lora_A[_ADAPTER].weight, layer.lora_B[_ADAPTER].weight
    return whole(first).flatten(1).float(), whole(second).flatten(1).float()


def _as_matrix(layer: Any) -> torch.Tensor:
    """The base weight as (out, in), whatever it is held in."""
    base = layer.get_base_layer()
    weight = plain_weight(base)
    # An embedding's factors make its transpose.
    return weight.T if isinstance(base, nn.Embedding) else weight.flatten(1)


def _dora_square(
    weight: torch.Tensor,
    first: torch.Tensor,
    second: torch.Tensor,
    scale: float,
    magnitude: torch.Tensor,
) -> float:
    """Squared norm of ``m / ||W + sBA|| * (W + sBA) - W``, rows taken one by one."""
    own = weight.square().sum(dim=1).double()
    mixed = scale * ((weight @ first.T) * second).sum(dim=1).double()
    added = scale**2 * ((second @ (first @ first.T)) * second).sum(dim=1).double()
    factor = magnitude.flatten().double() / (own + 2 * mixed + added).clamp_min(1e-30).sqrt()
    rows = (factor - 1) ** 2 * own + 2 * (factor - 1) * factor * mixed + factor**2 * added
    return max(float(rows.sum()), 0.0)


@torch.no_grad()
def _sample(parameter: nn.Parameter) -> torch.Tensor:
    """At most `SAMPLED_VALUES` values, spread evenly, (num_values,) float32 on the CPU."""
    weight = whole(parameter)
    flat = weight.reshape(-1)
    stride = max(1, math.ceil(flat.numel() / SAMPLED_VALUES))
    # With a factor in common with the rows, a stride would see the same few columns only.
    while stride > 1 and math.gcd(stride, weight.shape[-1]) > 1:
        stride += 1
    return flat[::stride].to("cpu", torch.float32, copy=True)
