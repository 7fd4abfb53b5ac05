"""What is proven on a run's own first samples, before its first step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sightline.data import Collator, EncodedSample
from sightline.errors import SightlineError
from sightline.records import RunDirectory
from sightline.training.steps import TrainingData

if TYPE_CHECKING:
    from sightline.training.trainer import SightlineTrainer

Prepare = Callable[[dict[str, Any]], dict[str, Any]]


def unprepared(batch: dict[str, Any]) -> dict[str, Any]:
    """A batch as it is, for a model on the CPU."""
    return batch


@dataclass(frozen=True, kw_only=True, slots=True)
class StartProof(ABC):
    """What was seen of samples both ways, the run's own and each alone.

    Attributes:
        samples: File and line of the samples.
        num_tokens: How many tokens of theirs were looked at.
        tolerance: By how much they may differ, as a share.
    """

    samples: list[str]
    num_tokens: int
    tolerance: float

    @property
    @abstractmethod
    def share(self) -> float:
        """How far both ways are apart."""

    @property
    def holds(self) -> bool:
        """Whether they are the same. What is not a number is within no tolerance."""
        return self.share <= self.tolerance


Proof = TypeVar("Proof", bound=StartProof)


def tolerance_of(model: nn.Module, *, exact: float, rounded: float) -> float:
    """What two ways may differ by: `exact` in float32, `rounded` in anything shorter."""
    return exact if next(model.parameters()).dtype == torch.float32 else rounded


class StartWatch(TrainerCallback, ABC, Generic[Proof]):
    """Proves something before the first step of a run, and ends the run where it does not hold.

    Args:
        run: The run directory; what was seen is written to ``run.json`` under `record`.
        data: What is trained on.
        together: The run's collator.
        alone: A collator that pads.
    """

    record: ClassVar[str]

    def __init__(
        self, run: RunDirectory, data: TrainingData, *, together: Collator, alone: Collator
    ) -> None:
        self._run = run
        self._data = data
        self._together = together
        self._alone = alone
        self._trainer: SightlineTrainer | None = None

    def watch(self, trainer: SightlineTrainer) -> None:
        """The trainer whose run this is; it is made after its callbacks."""
        self._trainer = trainer

    @abstractmethod
    def choose(self, data: TrainingData) -> list[EncodedSample]:
        """The samples that it is proven on; none where there is nothing to prove."""

    @abstractmethod
    def prove(self, model: nn.Module, samples: Sequence[EncodedSample], prepare: Prepare) -> Proof:
        """What is seen of the samples both ways."""

    @abstractmethod
    def refusal(self, proof: Proof) -> SightlineError:
        """What is said where the proof does not hold."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        samples = self.choose(self._data)
        if not samples:
            return
        trainer = self._trainer
        assert trainer is not None
        # The same samples on every rank: those that share weights have to call them equally often.
        with trainer.compute_loss_context_manager():
            proof = self.prove(trainer.planned, samples, trainer._prepare_inputs)
        if state.is_world_process_zero:
            record: dict[str, Any] = {self.record: asdict(proof)}
            self._run.write_state(state="training", **record)
        if not proof.holds:
            raise self.refusal(proof)
