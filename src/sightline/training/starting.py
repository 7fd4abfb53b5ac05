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
from sightline.training.parallel import is_shared_out
from sightline.training.ranks import from_all, num_ranks, this_rank, together
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


class StartCheck(ABC, Generic[Proof]):
    """Proves one thing on some of a run's own samples.

    Args:
        data: What is trained on.
        together: The run's collator.
        alone: A collator that pads.
    """

    record: ClassVar[str]
    """Where ``run.json`` has what was seen."""

    def __init__(self, data: TrainingData, *, together: Collator, alone: Collator) -> None:
        self._data = data
        self._together = together
        self._alone = alone

    @abstractmethod
    def choose(self) -> list[EncodedSample]:
        """The samples, the same in every process; none where there is nothing to prove."""

    @abstractmethod
    def prove(self, model: nn.Module, samples: Sequence[EncodedSample], prepare: Prepare) -> Proof:
        """What is seen of the samples both ways."""

    @abstractmethod
    def refusal(self, proof: Proof) -> SightlineError:
        """What is said where the proof does not hold."""


class StartWatch(TrainerCallback):
    """Makes proofs before the first step of a run, and ends the run where one does not hold.

    Where every process has the whole model they share the proofs out, and tell each other: each
    is as long as a step or so, in which nothing is learnt. Processes that share weights have to
    call them equally often, so all of them make every proof.

    Args:
        run: The run directory; what was seen is written to ``run.json``.
        checks: What is proven.
    """

    def __init__(self, run: RunDirectory, checks: Sequence[StartCheck[Any]]) -> None:
        self._run = run
        self._checks = checks
        self._trainer: SightlineTrainer | None = None

    def watch(self, trainer: SightlineTrainer) -> None:
        """The trainer whose run this is; it is made after its callbacks."""
        self._trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        trainer = self._trainer
        assert trainer is not None
        chosen = [(check, samples) for check in self._checks if (samples := check.choose())]
        is_shared = is_shared_out(trainer.planned)
        makers = [this_rank() if is_shared else n % num_ranks() for n in range(len(chosen))]
        made: list[StartProof | None] = [None] * len(chosen)
        with together():
            for number, (check, samples) in enumerate(chosen):
                if makers[number] == this_rank():
                    with trainer.compute_loss_context_manager():
                        made[number] = check.prove(
                            trainer.planned, samples, trainer._prepare_inputs
                        )
        every = from_all(made)
        told = [every[maker][number] for number, maker in enumerate(makers)]
        proofs = [proof for proof in told if proof is not None]
        assert len(proofs) == len(chosen)
        if state.is_world_process_zero:
            found = zip(chosen, proofs, strict=True)
            record: dict[str, Any] = {check.record: asdict(proof) for (check, _), proof in found}
            self._run.write_state(state="training", **record)
        for (check, _), proof in zip(chosen, proofs, strict=True):
            if not proof.holds:
                raise check.refusal(proof)
