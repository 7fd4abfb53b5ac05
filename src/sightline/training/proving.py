"""Proving the plan while a run trains: before its first step, in each stage, and at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sightline.data import EncodedSample
from sightline.errors import PlanError
from sightline.families import MappedFamily
from sightline.records import RunDirectory, read_json, write_json
from sightline.training.movement import Movement, MovementWatch
from sightline.training.parallel import any_nonzero, largest
from sightline.training.proof import prove_gradients
from sightline.tuning import PlannedModule, TuningPlan

if TYPE_CHECKING:
    from sightline.training.trainer import SightlineTrainer

# After the second step with a rate over zero both factors of LoRA have moved. Later looks are for
# what was too slow to tell, or met no picture until then.
_LOOKS = (3, 10, 30, 100, 300)
# AdamW moves a value by about its rate. float32 holds steps of 6e-8 of a value and more.
_RESOLUTION = 1e-6


class ProofWatch(TrainerCallback):
    """Compares what trains with the plan, ends the run where they differ, and keeps the record.

    Args:
        run: The run directory; ``proof.json`` is written there.
        plan: The plan.
        family: The model's family.
        movement: What every tensor was at the start.
        samples: Samples of the run's data for the proof before the first step.
        resumed: Whether the run goes on from a checkpoint.
    """

    def __init__(
        self,
        run: RunDirectory,
        plan: TuningPlan,
        family: MappedFamily,
        movement: MovementWatch,
        samples: Sequence[EncodedSample],
        *,
        resumed: bool,
    ) -> None:
        self._run = run
        self._plan = plan
        self._family = family
        self._movement = movement
        self._samples = samples
        self._trainer: SightlineTrainer | None = None
        self._parameters = dict(movement.parameters)
        by_name = plan.by_name()
        self._owners: dict[str, PlannedModule] = {
            name: by_name[_owner(name, by_name)] for name in self._parameters
        }
        kept = read_json(run.proof) if resumed and run.proof.is_file() else {}
        self.record: dict[str, Any] = {
            "schema": 1,
            "before": kept.get("before"),
            "stages": kept.get("stages", []),
            "end": None,
        }
        waiting = set(kept.get("without_gradient", self._parameters))
        self._waiting = {name: p for name, p in self._parameters.items() if name in waiting}
        self._stage = -1
        self._forget_stage()

    def watch(self, trainer: SightlineTrainer) -> None:
        """The trainer whose run this is; it is made after its callbacks."""
        self._trainer = trainer
        trainer.before_wrapping.append(self.prove)

    @property
    def num_watched(self) -> int:
        """Tensors that train in any stage that has begun."""
        return len(self._begun())

    @property
    def without_gradient(self) -> list[str]:
        """Names of those that no step reached."""
        return sorted(self._begun() & set(self._waiting))

    def prove(self) -> None:
        """Prove the plan before the first step, everything that trains in any stage being on.

        DDP must not be around the model yet: it would take what the proof's backward pass reached
        for what the first step did.

        Raises:
            PlanError: What trains is not what the plan says.
        """
        trainer = self._ready()
        self._refuse_outside_optimizer()
        model = trainer.planned
        model.train()
        collate: Any = trainer.data_collator
        batches = [trainer._prepare_inputs(collate([sample])) for sample in self._samples]
        proof = prove_gradients(
            model,
            self._plan,
            self._family,
            self._samples,
            batches,
            # The Trainer's own is in the model's forward only once it is wrapped.
            torch.autocast(trainer.args.device.type, torch.bfloat16, enabled=trainer.args.bf16),
        )
        self.record["before"] = proof.record()
        self._write(trainer.state)
        if not proof.holds:
            raise PlanError(proof.message())

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        trainer = self._ready()
        assert trainer.clock is not None
        if trainer.clock.index != self._stage:
            self._stage = trainer.clock.index
            self._forget_stage()
            self._refuse_gradients_of_frozen()
        if trainer.hides_gradients:
            return
        for name in _with_gradient(self._waiting):
            del self._waiting[name]
        # In one order: processes that share weights look at each together.
        unseen = sorted(self._unjudged - self._reached)
        self._reached.update(_with_gradient({name: self._at(name) for name in unseen}))
        rates = self._rates()
        for name in self._reached:
            self._travelled[name] = self._travelled.get(name, 0.0) + rates[name]
        self._num_moving += any(rate > 0 for rate in rates.values())

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        clock = self._ready().clock
        assert clock is not None
        is_due = self._num_moving in self._looks
        if is_due:
            self._looks.remove(self._num_moving)
        # A stage may be shorter than the first look.
        if is_due or clock.index != self._stage:
            self._judge(state)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._write(state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        trainer = self._ready()
        assert trainer.clock is not None
        self._judge(state)
        begun = range(len(trainer.clock.entered))
        end = self._movement.measure(state.global_step, begun, None)
        if trainer.hides_gradients:
            # What has moved was reached; nothing else can be known.
            self._waiting = {name: self._at(name) for name in end.unmoved}
        self.record["end"] = end.record()
        self.record["entered"] = list(trainer.clock.entered)
        self._write(state)

    def _judge(self, state: TrainerState) -> None:
        """Everything that got a gradient in this stage, and a rate that can be told, has moved."""
        expected = {
            name
            for name in sorted(self._unjudged & self._reached)
            # During warm-up the first step has no rate, and moves nothing.
            if self._travelled[name] > 0
            and self._travelled[name] >= _RESOLUTION * largest(self._at(name))
        }
        if not expected:
            return
        self._unjudged -= expected
        movement = self._movement.measure(state.global_step, [self._stage], expected)
        self.record["stages"].append({"stage": self._stage + 1, **movement.record()})
        self._write(state)
        if movement.unmoved:
            raise PlanError(self._unmoved(movement))

    def _unmoved(self, movement: Movement) -> str:
        first = movement.unmoved[0]
        rate = self._rates()[first]
        cause = (
            f"Its learning rate is {rate:g}: raise it, or freeze what is not to train."
            if rate < 1e-7
            else "Something sets it back after each step, or the optimizer passes over it."
        )
        return (
            f"what trains is not what the plan says: after step {movement.step}, "
            f"{len(movement.unmoved)} of {sum(row.num_tensors for row in movement.rows)} tensors "
            f"that got gradients have not moved.\nThe first is {first}. {cause}"
        )

    def _refuse_outside_optimizer(self) -> None:
        held = self._rates()
        missing = [name for name in self._parameters if name not in held]
        if missing:
            raise PlanError(
                f"what trains is not what the plan says: the optimizer does not hold "
                f"{len(missing)} of {len(self._parameters)} tensors that should train.\n"
                f"The first is {missing[0]}."
            )

    def _refuse_gradients_of_frozen(self) -> None:
        for name, module in self._owners.items():
            if not module.trains_in(self._stage) and self._at(name).grad is not None:
                raise PlanError(
                    f"what trains is not what the plan says: {name} is frozen in stage "
                    f"{self._stage + 1} and has a gradient."
                )

    def _rates(self) -> dict[str, float]:
        """The present rate of every tensor."""
        optimizer = self._ready().optimizer
        assert optimizer is not None
        by_id = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        return {name: float(by_id[id(p)]) for name, p in self._parameters.items() if id(p) in by_id}

    def _begun(self) -> set[str]:
        stages = range(self._stage + 1)
        return {
            name
            for name, module in self._owners.items()
            if any(module.trains_in(stage) for stage in stages)
        }

    def _forget_stage(self) -> None:
        self._looks: list[int] = list(_LOOKS)
        self._num_moving = 0
        self._reached: set[str] = set()
        self._travelled: dict[str, float] = {}
        self._unjudged = {
            name
            for name, module in self._owners.items()
            if self._stage >= 0 and module.trains_in(self._stage)
        }

    def _at(self, name: str) -> nn.Parameter:
        return self._parameters[name]

    def _ready(self) -> SightlineTrainer:
        assert self._trainer is not None
        return self._trainer

    def _write(self, state: TrainerState) -> None:
        if state.is_world_process_zero:
            kept = {"without_gradient": sorted(self._waiting)}
            write_json(self._run.proof, self.record | kept)


def _owner(name: str, known: dict[str, PlannedModule]) -> str:
    """Module of a tensor, by the name that `tensor_names` gave it."""
    owner = name.rpartition(".")[0]
    return owner if owner in known else name


def _with_gradient(parameters: Mapping[str, nn.Parameter]) -> list[str]:
    """Names of those whose gradient is there and not zero."""
    gradients = {name: p.grad for name, p in parameters.items() if p.grad is not None}
    found = any_nonzero(list(gradients.values()))
    return [name for name, is_there in zip(gradients, found, strict=True) if is_there]
