"""One forward and backward pass of the planned model, without memory and without arithmetic.

The model's own modules run, with the checkpointing, the freezing and the adapters of the run, on a
batch of the run: what autograd keeps is what it will keep.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from sightline.families import MappedFamily
from sightline.preparation.estimate.blocks import BlockWatch, rows_of, run_once
from sightline.preparation.estimate.devices import Device
from sightline.preparation.estimate.kernels import Kernels, variable_length
from sightline.preparation.estimate.timeline import Part, Timeline
from sightline.preparation.estimate.tracker import Tracker

Loss = Callable[[nn.Module, dict[str, torch.Tensor], None], tuple[torch.Tensor, int]]
"""Loss of a batch as training computes it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pass:
    """What a forward and backward pass costs.

    Attributes:
        peak: Bytes of every part at the moment at which most are alive, beside weights and
            optimizer.
        kept: Bytes that the forward pass leaves to the backward pass.
        flops: Floating-point operations of matrix products.
        calls: Operations that the device is told to do.
    """

    peak: Mapping[Part, int]
    kept: Mapping[Part, int]
    flops: int
    calls: int

    @property
    def peak_bytes(self) -> int:
        """Bytes of all parts at that moment."""
        return sum(self.peak.values())


def simulate(
    model: nn.Module,
    family: MappedFamily,
    batch: dict[str, torch.Tensor],
    loss: Loss,
    device: Device,
    *,
    checkpointing: bool,
    autocast: bool,
    accumulates: bool,
    every_block: bool = False,
) -> Pass:
    """Run a batch through a planned model on the meta device.

    Args:
        model: The planned model, in its stage.
        family: Its family, for its lists of blocks.
        batch: A batch of the collator, pixels on the meta device, everything else real.
        loss: Loss of a batch as training computes it.
        device: What it would run on.
        checkpointing: Whether blocks are computed again in the backward pass.
        autocast: Whether forward runs in bf16 autocast.
        accumulates: Whether gradients of an earlier pass are there.
        every_block: Run every block, also those that are alike.
    """
    paths = (family.modules.vision_blocks, family.modules.language_blocks)
    plain = _plain(model)
    rows = [] if every_block else rows_of(plain, paths)
    copies = {row.middle: len(row.passed) for row in rows}
    timeline = Timeline(copies)
    tracker, kernels = Tracker(timeline), Kernels(device, autocast=autocast)
    watch = BlockWatch(tracker, timeline, copies, checkpointing=checkpointing)
    tracker.ignore([*model.parameters(), *model.buffers()])
    with ExitStack() as stack:
        stack.enter_context(_checkpointing(plain, kernels, checkpointing))
        stack.enter_context(_training(model))
        stack.enter_context(run_once(plain, rows))
        stack.enter_context(watch.over(plain, paths))
        if autocast and _takes_bytes(batch):
            stack.enter_context(_patch_embedding(plain, family, kernels))
        stack.enter_context(variable_length())
        stack.enter_context(_head(plain, timeline, watch))
        stack.enter_context(_gradients(model, tracker, timeline, accumulates=accumulates))
        stack.enter_context(tracker)
        for tensor in batch.values():
            tracker.watch(tensor)
        with kernels:
            total, _ = loss(model, batch, None)
        kernels.forget_casts()
        timeline.end_forward()
        watch.end_forward()
        if total.requires_grad:
            total.backward()
        watch.leave()
        return Pass(
            peak=timeline.peak(),
            kept=timeline.kept(),
            flops=tracker.flops + watch.extra_flops,
            calls=tracker.calls + watch.extra_calls,
        )


def _plain(model: nn.Module) -> Any:
    base = getattr(model, "get_base_model", None)
    return model if base is None else base()


@contextmanager
def _training(model: nn.Module) -> Iterator[None]:
    was = model.training
    model.train()
    try:
        yield
    finally:
        model.train(was)


@contextmanager
def _checkpointing(model: PreTrainedModel, kernels: Kernels, wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        # Torch hides calls inside the backward pass from modes: what is computed again enters it.
        settings = {"use_reentrant": False, "context_fn": lambda: (nullcontext(), kernels)}
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=settings)
        # Training takes these hooks away again: backward would run through frozen towers.
        model.disable_input_require_grads()
        try:
            yield
        finally:
            model.gradient_checkpointing_disable()


def _takes_bytes(batch: dict[str, torch.Tensor]) -> bool:
    return any(tensor.dtype == torch.uint8 for tensor in batch.values())


@contextmanager
def _patch_embedding(model: nn.Module, family: MappedFamily, kernels: Kernels) -> Iterator[None]:
    """Grey levels are embedded in float32, autocast or not."""

    def before(_: nn.Module, args: tuple[Any, ...]) -> None:
        kernels.autocasts = False

    def after(_: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        kernels.autocasts = True
        return output.to(torch.bfloat16)

    module = model.get_submodule(family.modules.patch_embedding)
    hooks = module.register_forward_pre_hook(before), module.register_forward_hook(after)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _head(model: PreTrainedModel, timeline: Timeline, watch: BlockWatch) -> Iterator[None]:
    """From the head to the loss and back is a part of its own."""

    def after(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        watch.leave()
        timeline.enter_phase("head")
        hidden = output.last_hidden_state
        if hidden.requires_grad:
            hidden.register_hook(lambda _: timeline.enter_phase("backward"))

    body: Any = model.base_model
    hook = body.register_forward_hook(after)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def _gradients(
    model: nn.Module, tracker: Tracker, timeline: Timeline, *, accumulates: bool
) -> Iterator[None]:
    """Gradients of an earlier pass, where there is one; what this one adds is told the timeline."""
    training = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def arrived(parameter: torch.Tensor) -> None:
        assert parameter.grad is not None
        number = tracker.number_of(parameter.grad)
        if number is not None:
            timeline.mark_gradient(number)

    hooks = [one.register_post_accumulate_grad_hook(arrived) for one in training]
    if accumulates:
        for parameter in training:
            parameter.grad = torch.empty_like(parameter)
        tracker.ignore(one.grad for one in training if one.grad is not None)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for parameter in training:
            parameter.grad = None
