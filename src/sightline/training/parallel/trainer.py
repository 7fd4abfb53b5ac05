"""The Trainer on several devices: what it wraps, when gradients are shared, and their norm."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from peft import PeftModel
from torch import nn
from transformers import Trainer

from sightline.training.parallel.sharding import is_sharded, never_wrapped
from sightline.training.parallel.values import clip_gradients, norms
from sightline.training.parallel.zero import tell_what_is_borrowed
from sightline.tuning import TuningPlan


class ParallelTrainer(Trainer):
    """See the module's docstring.

    A model that `shard` was called on is taken as it is. Any other is wrapped by accelerate: in DDP
    where there are several processes.

    Args:
        model: The planned model.
        plan: Its plan.
        **trainer: Arguments of `transformers.Trainer`.

    Attributes:
        before_wrapping: Called before training, when the optimizer is there and nothing is around
            the model yet.
    """

    def __init__(self, *, model: nn.Module, plan: TuningPlan, **trainer: Any) -> None:
        # The Trainer makes its accelerator before it knows the model.
        self._is_sharded = is_sharded(model)
        self.before_wrapping: list[Callable[[], None]] = []
        super().__init__(model=model, plan=plan, **trainer)  # pyright: ignore[reportCallIssue]

    def create_accelerator_and_postprocess(self) -> None:
        """Make the accelerator. Overrides the Trainer's."""
        super().create_accelerator_and_postprocess()
        if self._is_sharded:
            never_wrapped(self.accelerator)

    def _wrap_model(self, model: Any, training: bool = True, dataloader: Any = None) -> Any:
        """Called once the optimizer is there, before DDP or DeepSpeed take the model."""
        if training:
            for call in self.before_wrapping:
                call()
            if self.is_deepspeed_enabled:
                tell_what_is_borrowed(model)
        return super()._wrap_model(model, training, dataloader)

    @property
    def hides_gradients(self) -> bool:
        """Whether gradients are gone when the optimizer is about to step: DeepSpeed steps itself,
        as soon as the last micro-batch has gone back."""
        return bool(self.is_deepspeed_enabled)

    def write_engine_state(self, folder: Path, is_writer: bool) -> list[Any]:
        """Write weights and optimizer; DeepSpeed has a format of its own. Overrides the
        checkpoints'."""
        if not self.is_deepspeed_enabled:
            return super().write_engine_state(folder, is_writer)  # pyright: ignore
        engine: Any = self.model_wrapped
        engine.save_checkpoint(
            str(folder),
            # The Trainer looks for folders of this name when it goes on.
            tag=f"global_step{self.state.global_step}",
            exclude_frozen_parameters=isinstance(self.accelerator.unwrap_model(engine), PeftModel),
        )
        dist.barrier()
        return []

    def _move_model_to_device(self, model: nn.Module, device: torch.device) -> None:
        """Put the model on its device; slices are there. Overrides the Trainer's."""
        if not self._is_sharded:
            super()._move_model_to_device(model, device)

    def sharing_gradients(self, model: nn.Module, *, is_last: bool) -> AbstractContextManager[Any]:
        """Whether processes share gradients after a micro-batch.

        DDP does once a step, with the last one: what earlier ones left is in it. That one has to
        reach what any of them reached, so slots with pictures come last in a step.

        FSDP2 does after each: until then every process would hold all gradients whole.

        Args:
            model: The model as the Trainer wrapped it.
            is_last: Whether it is the last of its step.
        """
        self.accelerator.gradient_state._set_sync_gradients(is_last)
        if self._is_sharded or is_last:
            return nullcontext()
        return self.accelerator.no_sync(model)

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        """Scale gradients down; their norm before. Overrides the Trainer's."""
        if not self._is_sharded:
            return super()._clip_grad_norm(model)
        return clip_gradients(_gradients(model), self.args.max_grad_norm)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """Norm of all gradients. Overrides the Trainer's."""
        if grad_norm is None and self._is_sharded:
            return norms([_gradients(model)])[0]
        return super()._get_grad_norm(model, grad_norm=grad_norm)


def _gradients(model: nn.Module) -> list[torch.Tensor]:
    return [one.grad for one in model.parameters() if one.grad is not None]
