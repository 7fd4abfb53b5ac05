"""The end of a run at the first loss or gradient that is not finite, with the place of its birth.

The Trainer would go on: with ``logging_nan_inf_filter``, its default, it logs the mean of earlier
losses in place of one that is NaN. Gradients are checked before the optimizer sees them, so the
weights are still sound when the run ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, NoReturn

import torch
from torch import nn

from sightline.errors import DivergedError
from sightline.training.alarms import Alarm
from sightline.training.non_finite import Origin, find_origin
from sightline.training.parallel import is_sharded
from sightline.training.ranks import anywhere, from_all

Batch = Mapping[str, Any]
LossOf = Callable[[Batch, Any], torch.Tensor]
"""A micro-batch and the supervised tokens of its step to its loss, exactly as in training."""

_REMEDY = (
    "Lower training.learning_rate, or train in fp32 (training.precision). The newest checkpoint "
    "is sound: go on from it with --resume."
)
_REMEDIES = {
    "weights": "The last steps were too large: lower training.learning_rate and go on from the "
    "newest checkpoint with --resume, or start anew.",
    "batch": "Look at the samples of this step: sightline check and sightline preview.",
}


class _MicroBatch(NamedTuple):
    batch: Batch
    num_tokens: Any
    random: torch.Tensor
    random_cuda: torch.Tensor | None


class NonFiniteGuard:
    """Remembers the micro-batches of a step until it is known that they were sound.

    Args:
        model: The model as it trains.
        tell: Told of the alarm before the run ends.
    """

    def __init__(self, model: nn.Module, tell: Callable[[Alarm], None]) -> None:
        self._model = model
        self._is_sharded = is_sharded(model)
        self._tell = tell
        self._step: list[_MicroBatch] = []
        self.loss_of: LossOf | None = None

    def saw(self, batch: Batch, num_tokens: Any) -> None:
        """A micro-batch is about to be trained on. The Trainer holds them all for a step too."""
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
        self._step.append(_MicroBatch(batch, num_tokens, torch.get_rng_state(), cuda))

    def step_ended(self) -> None:
        """The step was sound."""
        self._step.clear()

    def check_losses(self, losses: Sequence[torch.Tensor], step: int) -> None:
        """Refuse the losses of a step's micro-batches where one is not finite.

        All at once, so that a GPU is waited for once a step.

        Args:
            losses: () float32 each, in order.
            step: The optimizer step that is being made, from 1.

        Raises:
            DivergedError: It names the place where it began.
        """
        values = torch.stack(list(losses)).tolist()
        bad = [not math.isfinite(value) for value in values]
        # Processes that share weights run it again together, or wait for each other forever.
        for number, is_bad in enumerate(anywhere(bad) if self._is_sharded else bad, start=1):
            if is_bad:
                value = values[number - 1]
                what = f"the loss is {value}"
                if math.isfinite(value):
                    what = "the loss of another process is not finite"
                self._end(f"{what} at step {step}, micro-batch {number}", step, [number])

    def check_gradients(self, norms: Mapping[str, float], step: int) -> None:
        """Refuse gradients of a step where they are not finite.

        Args:
            norms: Gradient norm of each tower.
            step: The optimizer step that is being made, from 1.

        Raises:
            DivergedError: It names the place where it began.
        """
        bad = [tower for tower, norm in norms.items() if not math.isfinite(norm)]
        if bad:
            # Clipping by a norm that is NaN makes all of them NaN.
            whose = "" if len(bad) == len(norms) else f" of {' and '.join(bad)}"
            what = f"the gradients{whose} are not finite at step {step}, with a finite loss"
            self._end(what, step, list(range(1, len(self._step) + 1)))

    def _end(self, seen: str, step: int, numbers: list[int]) -> NoReturn:
        origin = self._origin(numbers)
        alarm = Alarm(
            id="values.non_finite",
            step=step,
            seen=seen,
            cause=origin.text,
            remedy=_REMEDIES.get(origin.way, _REMEDY),
        )
        self._tell(alarm)
        raise DivergedError(f"{seen}. {alarm.cause}\n{alarm.remedy}")

    def _origin(self, numbers: list[int]) -> Origin:
        """The place in the first micro-batch that fails when it is run again."""
        assert self.loss_of is not None, "the trainer sets it before the first step"
        origin = Origin(way="unknown")
        for number in numbers:
            one = self._step[number - 1]
            torch.set_rng_state(one.random)
            if one.random_cuda is not None:
                torch.cuda.set_rng_state(one.random_cuda)
            again = partial(self.loss_of, one.batch, one.num_tokens)
            if self._is_sharded:
                origin = self._of_all(one, again)
            else:
                origin = find_origin(self._model, one.batch, again)
            if origin.way != "unknown":
                break
        return origin

    def _of_all(self, one: _MicroBatch, again: Callable[[], torch.Tensor]) -> Origin:
        """What the first process knows that knows anything."""

        def any_process(is_found: bool) -> bool:
            return anywhere([is_found])[0]

        own = find_origin(self._model, one.batch, again, any_process)
        return next((origin for origin in from_all(own) if origin.way != "unknown"), own)
