"""Blocks that are alike, run once.

Eighty decoder layers of one kind, tuned the same way, cost the same. Of a row of them the first, a
middle one and the last run; the middle one stands for the others, which pass their input on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import nn

from sightline.preparation.estimate.timeline import Segment, Timeline
from sightline.preparation.estimate.tracker import Tracker

# Fewer gain nothing: first, middle and last run.
_MIN_ALIKE = 4
_FORWARD_PRODUCTS, _BACKWARD_PRODUCTS = 2, 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """Blocks side by side that are alike.

    Attributes:
        path: Module path of the list they stand in.
        indices: Their numbers.
    """

    path: str
    indices: tuple[int, ...]

    @property
    def middle(self) -> str:
        """Module path of the one that stands for others."""
        return f"{self.path}.{self.indices[1]}"

    @property
    def passed(self) -> tuple[int, ...]:
        """Numbers of those that it stands for."""
        return self.indices[2:-1]


def rows_of(model: nn.Module, paths: Sequence[str]) -> list[Row]:
    """The rows of blocks that are alike, long enough to be run once.

    Args:
        model: The planned model, in its stage.
        paths: Module paths of its lists of blocks.
    """
    rows = []
    for path in paths:
        blocks: Any = model.get_submodule(path)
        numbered = enumerate(blocks)
        for _, group in groupby(numbered, key=lambda pair: _signature(pair[1])):
            indices = tuple(index for index, _ in group)
            if len(indices) >= _MIN_ALIKE:
                rows.append(Row(path=path, indices=indices))
    return rows


@contextmanager
def run_once(model: nn.Module, rows: Sequence[Row]) -> Iterator[None]:
    """Let blocks that another one stands for pass their input on."""
    taken: list[tuple[Any, int, nn.Module]] = []
    for row in rows:
        blocks: Any = model.get_submodule(row.path)
        for index in row.passed:
            taken.append((blocks, index, blocks[index]))
            blocks[index] = _PassedOn()
    try:
        yield
    finally:
        for blocks, index, block in taken:
            blocks[index] = block


class BlockWatch:
    """Tells a timeline where blocks begin and end, forward and backward.

    Attention inside a vision tower is cut at images, frames and windows. What it keeps does not
    depend on how many pieces there are, only on whether there are several, and thousands of
    windows of a long video would take minutes: two halves run, and the operations are counted from
    the cuts that were given.

    Args:
        tracker: Of the step.
        timeline: Of the step.
        copies: Blocks, beside itself, that a block stands for.
        checkpointing: Whether blocks are computed again in the backward pass.
    """

    def __init__(
        self, tracker: Tracker, timeline: Timeline, copies: dict[str, int], *, checkpointing: bool
    ) -> None:
        self.extra_flops = 0
        self.extra_calls = 0
        self._tracker = tracker
        self._timeline = timeline
        self._copies = copies
        self._checkpointing = checkpointing
        self._is_forward = True
        self._running: tuple[str, int, int] | None = None
        self._pairs: dict[str, int] = {}
        self._output: torch.Tensor | None = None

    @contextmanager
    def over(self, model: nn.Module, paths: Sequence[str]) -> Iterator[None]:
        """Watch the blocks of a model."""
        with ExitStack() as stack:
            for path in paths:
                blocks: Any = model.get_submodule(path)
                for index, block in enumerate(blocks):
                    name = f"{path}.{index}"
                    before = block.register_forward_pre_hook(self._before(name), with_kwargs=True)
                    after = block.register_forward_hook(self._after(name))
                    stack.callback(before.remove)
                    stack.callback(after.remove)
            yield
            self.leave()
            self._output = None

    def end_forward(self) -> None:
        """What calls a block from now on computes it again.

        transformers 5.17 runs the hooks of a block then, too; 5.23 does not.
        """
        self._is_forward = False

    def leave(self) -> None:
        """Whatever block is running has ended."""
        if self._running is not None:
            name, flops, calls = self._running
            copies = self._copies.get(name, 0)
            self.extra_flops += copies * (self._tracker.flops - flops)
            self.extra_calls += copies * (self._tracker.calls - calls)
            self._running = None
        self._tracker.counts_attention = True
        self._timeline.leave()

    def _enter(self, name: str, direction: Any) -> None:
        self.leave()
        self._running = name, self._tracker.flops, self._tracker.calls
        self._tracker.counts_attention = name not in self._pairs
        self._timeline.enter(Segment(name, direction))

    def _before(self, name: str) -> Any:
        def hook(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            cuts = kwargs.get("cu_seqlens")
            if self._is_forward:
                if cuts is not None:
                    self._pairs[name] = int(cuts.diff().double().square().sum())
                if not isinstance(block, _PassedOn):
                    self._begin(name, args[0] if args else kwargs["hidden_states"])
            return args, kwargs if cuts is None else {**kwargs, "cu_seqlens": _halved(cuts)}

        return hook

    def _begin(self, name: str, hidden: torch.Tensor) -> None:
        if hidden.requires_grad and hidden is not self._output:
            # Its gradient is complete when this block is done. Where it is the output of the
            # block before, that one begins then.
            hidden.register_hook(lambda _: self.leave())
        self._enter(name, "forward")

    def _after(self, name: str) -> Any:
        def hook(block: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if not self._is_forward:
                return
            hidden = output[0] if isinstance(output, tuple) else output
            if name in self._pairs:
                self._count_attention(self._pairs[name], hidden)
            if isinstance(block, _PassedOn):
                return
            self.leave()
            self._output = hidden
            if hidden.requires_grad:
                hidden.register_hook(lambda _: self._enter(name, "backward"))

        return hook

    def _count_attention(self, pairs: int, hidden: torch.Tensor) -> None:
        products = _FORWARD_PRODUCTS
        if hidden.requires_grad:
            products += _BACKWARD_PRODUCTS + _FORWARD_PRODUCTS * self._checkpointing
        self.extra_flops += 2 * products * pairs * hidden.shape[-1]


def _halved(cuts: torch.Tensor) -> torch.Tensor:
    """Borders of two halves where there are several segments, of one where there is one."""
    last = int(cuts[-1])
    several = int((cuts.diff() > 0).sum()) > 1
    return cuts.new_tensor([0, last // 2, last] if several else [0, last])


class _PassedOn(nn.Module):
    """Stands where a block stood that is like another one."""

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The input, (..., hidden_size)."""
        return hidden_states


def _signature(block: nn.Module) -> tuple[Any, ...]:
    """Equal for blocks that cost the same."""
    return (
        tuple(type(module) for module in block.modules()),
        tuple(
            (name, tuple(parameter.shape), parameter.dtype, parameter.requires_grad)
            for name, parameter in block.named_parameters()
        ),
    )
