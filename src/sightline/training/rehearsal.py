"""A rehearsal: a few samples learned by heart, in as few steps as that takes.

The run's own rates are tried first, held constant. Where the loss stalls high they are doubled: a
rate for thousands of steps is often too low for a hundred. Where it stalls near its end they are
halved, for what is left is the noise of the rate itself. The question is whether the parts fit, not
whether the rate does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sightline.data import Collator
from sightline.data.samples import PlannedSamples
from sightline.model import Checkpoint
from sightline.preparation import PreparedData
from sightline.preparation.choosing import ChosenSamples, choose_samples
from sightline.records import RunDirectory
from sightline.training.recall import Recall, recall_samples
from sightline.tuning import PlannedStage, TuningPlan

if TYPE_CHECKING:
    from sightline.training.trainer import SightlineTrainer

LOSS_LIMIT = 0.01
"""Mean loss per supervised token, of every sample, that counts as near zero: each token is
predicted with 99 %."""

_MAX_FACTOR = 32.0
# Over this share of the window before, a loss falls too slowly while most is still to be learned.
_SLOW = 0.8
# Shares of the loss at the start: below the first much is learned, above the other it is undone.
_LEARNED, _HARMED = 0.5, 1.2
# Looking costs a forward pass a sample; there is nothing to see while the loss is high.
_LOOK_BELOW = 20 * LOSS_LIMIT
_MIN_STEPS_BETWEEN = 5
_MIN_WINDOW = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class BegunRehearsal:
    """A rehearsal whose samples are read, and whose directory is there.

    Attributes:
        run: Its directory.
        checkpoint: The base with the run's settings.
        data: The data of the rehearsal.
        everything: The data of the whole run.
    """

    run: RunDirectory
    checkpoint: Checkpoint
    data: PreparedData
    everything: PreparedData


@dataclass(kw_only=True, slots=True)
class Rehearsal:
    """What makes a run a rehearsal, and how it went.

    Attributes:
        num_samples: Samples that are wanted.
        max_steps: Most optimizer steps.
        everything: The data of the whole run; None before they are read.
        chosen: What is learned; None before.
        begun: What it was made of, from when its directory is there.
        num_steps: Optimizer steps that were made.
        rate_factor: What the run's rates were multiplied by in the end.
        losses: Mean training loss of each stretch of steps between two looks at the rate.
        recalls: What the model knew of each sample in the end.
    """

    num_samples: int
    max_steps: int
    everything: PreparedData | None = None
    chosen: ChosenSamples | None = None
    begun: BegunRehearsal | None = None
    num_steps: int = 0
    rate_factor: float = 1.0
    losses: list[float] = field(default_factory=list)
    recalls: list[Recall] = field(default_factory=list)

    def choose(self, data: PreparedData) -> PreparedData:
        """The data with a few conversations that stand for all, and nothing held out."""
        self.everything = data
        self.chosen = choose_samples(data.train, self.num_samples)
        return replace(data, train=self.chosen.of(data.train), eval=None)

    def begin(self, run: RunDirectory, checkpoint: Checkpoint, data: PreparedData) -> None:
        """Its directory is there.

        Args:
            run: The directory.
            checkpoint: The base with the run's settings.
            data: What `choose` gave.
        """
        assert self.everything is not None
        self.begun = BegunRehearsal(
            run=run, checkpoint=checkpoint, data=data, everything=self.everything
        )
        self.write()

    @property
    def is_learned(self) -> bool:
        """Whether every sample is known by heart."""
        return bool(self.recalls) and all(
            one.num_wrong == 0 and one.loss <= LOSS_LIMIT for one in self.recalls
        )

    def write(self) -> None:
        """Keep in ``run.json`` how it went so far."""
        assert self.begun is not None
        assert self.chosen is not None
        known = [one._asdict() for one in self.recalls] or [{}] * len(self.chosen.samples)
        record = {
            "samples": [
                asdict(sample) | recall
                for sample, recall in zip(self.chosen.samples, known, strict=True)
            ],
            "num_conversations": self.chosen.num_conversations,
            "left_out": list(self.chosen.left_out),
            "num_steps": self.num_steps,
            "max_steps": self.max_steps,
            "rate_factor": self.rate_factor,
            "losses": self.losses,
            "loss_limit": LOSS_LIMIT,
            "is_learned": self.is_learned,
        }
        self.begun.run.write_state(state="training", rehearsal=record)


def at_once(plan: TuningPlan) -> TuningPlan:
    """A plan without stages: all that trains in any of them trains from the start.

    A rehearsal ends early, so what joins late would never train.

    Args:
        plan: The resolved plan; each module keeps the highest of its rates.
    """
    if len(plan.stages) == 1:
        return plan
    modules = tuple(
        replace(module, learning_rates=(_highest(module.learning_rates),))
        for module in plan.modules
    )
    return replace(plan, modules=modules, stages=(PlannedStage(name="rehearsal"),))


def _highest(rates: Sequence[float | None]) -> float | None:
    return max((rate for rate in rates if rate is not None), default=None)


class RehearsalWatch(TrainerCallback):
    """Ends the training when the samples are known, and raises the rates where they stay unknown.

    Args:
        rehearsal: What is rehearsed; filled in as it goes.
        samples: The samples that are learned.
        collate: Makes a padded batch of one.
    """

    def __init__(
        self,
        rehearsal: Rehearsal,
        samples: PlannedSamples,
        collate: Collator,
    ) -> None:
        self._rehearsal = rehearsal
        self._samples = samples
        self._collate = collate
        self._trainer: SightlineTrainer | None = None
        self._looked_at = -1
        self._losses: list[float] = []

    def watch(self, trainer: SightlineTrainer) -> None:
        """The trainer whose run this is; it is made after its callbacks."""
        self._trainer = trainer

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if "loss" not in state.log_history[-1]:
            return
        self._losses.append(float(state.log_history[-1]["loss"]))
        epoch = self._ready().steps_an_epoch
        is_due = state.global_step % max(epoch, _MIN_STEPS_BETWEEN) == 0
        if is_due and _mean(self._losses[-epoch:]) <= _LOOK_BELOW:
            self._look(state)
            control.should_training_stop |= self._rehearsal.is_learned
        # Two epochs, so that both of what is compared have seen all samples as often.
        window = epoch * max(2, -(-_MIN_WINDOW // epoch))
        if len(self._losses) % window == 0:
            self._change_rates(_mean(self._losses[-window:]))

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # Made anew in minutes: a checkpoint of it would only cost its place.
        control.should_save = False

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._looked_at != state.global_step:
            self._look(state)
        self._rehearsal.write()

    def _look(self, state: TrainerState) -> None:
        trainer = self._ready()
        self._looked_at = self._rehearsal.num_steps = state.global_step
        with trainer.compute_loss_context_manager():
            self._rehearsal.recalls = recall_samples(trainer.planned, self._samples, self._collate)

    def _change_rates(self, loss: float) -> None:
        """At the end of a window: go on as before where the loss still falls."""
        losses = self._rehearsal.losses
        losses.append(loss)
        if len(losses) == 1:
            return
        first, before = losses[0], losses[-2]
        has_learned = min(losses) <= _LEARNED * first
        if loss >= before and (has_learned or loss > _HARMED * first):
            factor = 0.5
        elif loss > _SLOW * before and not has_learned:
            factor = 2.0
        else:
            return
        if self._rehearsal.rate_factor * factor > _MAX_FACTOR:
            return
        scheduler = self._ready().lr_scheduler
        assert isinstance(scheduler, LambdaLR)
        scheduler.base_lrs = [rate * factor for rate in scheduler.base_lrs]
        self._rehearsal.rate_factor *= factor

    def _ready(self) -> SightlineTrainer:
        assert self._trainer is not None
        return self._trainer


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
