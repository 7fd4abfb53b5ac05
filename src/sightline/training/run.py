"""A training run from configuration to exported model."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainingArguments, set_seed

from sightline.config import RunConfig, dump_config
from sightline.data.batches import figures_of
from sightline.model import is_tiny
from sightline.preparation import data_record
from sightline.records import (
    RunDirectory,
    claimed,
    full_disk_explained,
    refuse_claimed,
    write_json,
    write_text,
)
from sightline.training.arguments import training_arguments
from sightline.training.checkpoints import Origin, go_on_from, refuse_changed_keys
from sightline.training.exporting import Export, frozen_weights
from sightline.training.held_out import HeldOutAnswers, held_out_answers
from sightline.training.loading import load_model, plan_model
from sightline.training.loss_proof import LossCheck
from sightline.training.movement import MovementWatch
from sightline.training.observer import Observer, SilentObserver
from sightline.training.out_of_memory import out_of_memory_explained
from sightline.training.packing import PackingCheck
from sightline.training.parallel import is_shared_out, roomy_device, shard, take_values
from sightline.training.parallel.elastic import keep_step
from sightline.training.parallel.engine import shares_weights
from sightline.training.parallel.zero import announce_deepspeed, forget_deepspeed
from sightline.training.processes import (
    is_first,
    num_processes,
    one_after_the_first,
    processes_joined,
)
from sightline.training.proof import proof_samples
from sightline.training.proving import ProofWatch
from sightline.training.ready import ReadyRun, get_ready
from sightline.training.rehearsal import Rehearsal, RehearsalWatch
from sightline.training.stages import num_steps_of, schedule_record
from sightline.training.starting import StartCheck, StartWatch
from sightline.training.stopping import StopSignals, StopWatch
from sightline.training.trackers import refuse_missing_trackers, watch_trackers
from sightline.training.trainer import SightlineTrainer, base_schedule
from sightline.training.unfreezing import StageWatch
from sightline.training.watching import RunWatch, WeightChange, facts_of, watch_run, watch_weights
from sightline.tuning import (
    plan_record,
    plan_rows,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingResult:
    """What a run ends with.

    Attributes:
        run: The run directory.
        final_loss: Mean loss per supervised token of the last logged step.
        num_steps: Optimizer steps.
        seconds: Time spent in training, export left out.
    """

    run: RunDirectory
    final_loss: float
    num_steps: int
    seconds: float


def train(
    config: RunConfig,
    observer: Observer | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    rehearsal: Rehearsal | None = None,
) -> TrainingResult:
    """Run a configuration.

    Data, plan and weights are checked before the run directory exists.

    Args:
        config: The validated configuration.
        observer: Told what happens; None tells nobody.
        resume: Go on from the newest checkpoint of the run directory.
        overwrite: Replace a finished run of the same directory.
        rehearsal: Learn a few samples by heart instead, and keep how that went.

    Raises:
        SightlineError: See the subclasses; nothing half-written is left behind.
        Interrupted: SIGINT or SIGTERM came before or after training.
    """
    output = Path(config.output)
    refuse_missing_trackers(config.training)
    announce_deepspeed(config.training)
    observer = observer if observer is not None and is_first() else SilentObserver()
    with processes_joined(), ExitStack() as held:
        with one_after_the_first():
            if resume:
                earlier = RunDirectory.open(output)
                if is_first():
                    held.enter_context(claimed(output, observer.note))
                refuse_changed_keys(earlier, config)
                config = keep_step(config, earlier, num_processes(), observer.note)
            elif is_first():
                refuse_claimed(output)
                RunDirectory.refuse_occupied(output, overwrite=overwrite)
        with StopSignals(observer.note) as signals:
            with out_of_memory_explained(config):
                ready = get_ready(config, observer, rehearsal)
            answers = held_out_answers(ready)
            with one_after_the_first():
                if is_first() and not resume:
                    held.enter_context(claimed(output, observer.note))
                    RunDirectory.create(output, overwrite=overwrite)
            run = RunDirectory.open(output)
            return _Run(ready, answers, run, observer, signals, rehearsal).go(resume=resume)


class _Run:
    """The steps of a run, in order; each is one method."""

    def __init__(
        self,
        ready: ReadyRun,
        answers: HeldOutAnswers | None,
        run: RunDirectory,
        observer: Observer,
        signals: StopSignals,
        rehearsal: Rehearsal | None,
    ) -> None:
        self._ready = ready
        self._rehearsal = rehearsal
        self._stop = StopWatch(signals)
        self._run = run
        self._observer = observer
        self._config = ready.config
        self._checkpoint = ready.checkpoint
        self._data = ready.data
        self._plan = ready.plan
        self._answers = answers

    def go(self, *, resume: bool) -> TrainingResult:
        # Before adapters are initialised; the Trainer seeds only what comes after.
        set_seed(self._config.training.seed)
        plain, plan, family = self._ready.model, self._plan, self._checkpoint.family
        origin = Origin.of(self._config, self._data, plain, plan, world_size=num_processes())
        found = go_on_from(self._run, origin, self._observer.note) if resume else None
        self._write_inputs(goes_on=found is not None)
        frozen = frozen_weights(plain, plan, merged=self._config.export.merged)
        model = plan_model(plain, self._checkpoint, plan, self._config.training)
        totals = self._write_plan(model)
        if shares_weights(self._config.training):
            shard(model, family, dtype=self._ready.dtype)
        change = watch_weights(model, plan, family)
        watch = self._watch(model, change, totals)
        self._proof = ProofWatch(
            self._run,
            plan,
            family,
            MovementWatch(model, plan, family, change),
            proof_samples(self._data.train.samples),
            resumed=found is not None,
        )
        trainer = self._trainer(model, watch, origin)
        if is_first():
            first_step = found.step + 1 if found else 1
            watch_trackers(trainer, self._run, first_step=first_step, note=self._observer.note)
        self._observer.stage("training")
        began = time.monotonic()
        with (
            full_disk_explained(self._run.checkpoints),
            out_of_memory_explained(self._config, lambda: trainer.held),
        ):
            trainer.train(resume_from_checkpoint=str(found.path) if found else None)
        self._stop.end_if_stopped(self._run, trainer.state)
        seconds = time.monotonic() - began
        steps = trainer.state.global_step
        trained = self._whole(model)
        with one_after_the_first():
            if is_first():
                self._export(trained, frozen)
                self._run.write_state(
                    state="trained", finished=True, seconds=round(seconds, 2), steps=steps
                )
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        return TrainingResult(
            run=self._run, final_loss=float(losses[-1]), num_steps=steps, seconds=seconds
        )

    def _write_inputs(self, *, goes_on: bool) -> None:
        batches = self._batches_record()
        self._observer.batched(batches)
        if not is_first():
            return
        probe = self._ready.probe
        write_text(self._run.config, dump_config(self._config))
        if not goes_on:
            counts = self._data.train.write_ledger(self._run.ledger, self._run.quarantine)
            self._run.write_state(state="training", data=data_record(counts, self._data))
        self._run.write_state(
            state="training",
            family=self._checkpoint.family.key,
            model=self._config.model,
            device="cuda" if torch.cuda.is_available() else "cpu",
            preparation={
                "kind": self._config.data.preparation,
                "compared": probe.record() if probe is not None else None,
            },
            batches=batches,
        )
        if self._rehearsal is not None:
            self._rehearsal.begin(self._run, self._checkpoint, self._data)

    def _batches_record(self) -> dict[str, Any]:
        return {
            "packed": self._ready.packed,
            "num_processes": num_processes(),
            **asdict(figures_of(self._ready.train.steps)),
        }

    def _watch(self, model: Any, change: WeightChange, totals: dict[str, int]) -> RunWatch:
        config = self._checkpoint.config
        facts = facts_of(
            self._plan,
            totals,
            vocabulary=int(config.text_config.vocab_size),
            is_random=is_tiny(config),
        )
        return watch_run(
            run=self._run,
            model=model,
            plan=self._plan,
            family=self._checkpoint.family,
            change=change,
            facts=facts,
            tell=self._observer.alarm,
        )

    def _write_plan(self, model: torch.nn.Module) -> dict[str, int]:
        """Write ``plan.json``; returns its totals."""
        rows = plan_rows(model, self._plan, self._checkpoint.family)
        record = plan_record(rows, self._plan) | {"schedule": self._schedule()}
        if is_first():
            write_json(self._run.plan, record)
        self._observer.planned(record)
        return record["totals"]

    def _schedule(self) -> dict[str, Any]:
        training = self._config.training
        num_steps = num_steps_of(training, self._ready.train.steps.num_steps)
        args = self._arguments()
        return schedule_record(
            self._plan,
            base_schedule(args, num_steps),
            num_steps=num_steps,
            num_warmup_steps=args.get_warmup_steps(num_steps),
        )

    def _arguments(self) -> TrainingArguments:
        return training_arguments(
            self._config.training,
            directory=self._run.checkpoints,
            bf16=self._ready.dtype == torch.bfloat16,
            evaluates=bool(self._data.eval),
        )

    def _trainer(self, model: Any, watch: RunWatch, origin: Origin) -> SightlineTrainer:
        stages = StageWatch(self._observer.stage_began)
        starting, rehearsal = self._starting(), self._rehearsing()
        trainer = SightlineTrainer(
            plan=self._plan,
            watch=watch,
            origin=origin,
            model=model,
            args=self._arguments(),
            data=self._ready.train,
            eval_data=self._ready.eval,
            collator=self._ready.collator(),
            answers=self._answers,
            callbacks=[
                stages,
                self._proof,
                starting,
                *rehearsal,
                *self._observer.trainer_callbacks(),
                self._stop,
            ],
        )
        stages.watch(trainer)
        for watching in (self._proof, starting, *rehearsal):
            watching.watch(trainer)
        # It prints a dictionary a step; metrics.jsonl has them all.
        trainer.remove_callback(PrinterCallback)
        return trainer

    def _starting(self) -> StartWatch:
        """What is proven on the run's own samples before its first step."""
        alone, _ = self._ready.padding_collators()
        together, data = self._ready.collator(), self._ready.train
        checks: list[StartCheck[Any]] = [LossCheck(data, together=together, alone=alone)]
        if self._ready.packed:
            checks.insert(0, PackingCheck(data, together=together, alone=alone))
        return StartWatch(self._run, checks)

    def _rehearsing(self) -> list[RehearsalWatch]:
        if self._rehearsal is None:
            return []
        alone, _ = self._ready.padding_collators()
        samples = self._data.train.samples
        return [RehearsalWatch(self._rehearsal, samples, alone)]

    def _whole(self, model: Any) -> Any:
        """The trained model in the process that exports, whole where processes share it.

        All processes have to ask. Where it is shared, the base is loaded once more, and every
        weight filled with what was trained, frozen ones too: what is exported is what trained.
        """
        if not is_shared_out(model):
            return model
        again = None
        forget_deepspeed()
        if is_first():
            self._observer.stage("gathering the weights")
            plain = load_model(
                self._checkpoint,
                dtype=self._ready.dtype,
                takes_raw=self._ready.pixels.takes_raw,
            )
            again = plan_model(plain, self._checkpoint, self._plan, self._config.training)
        take_values(again, model)
        return again.to(roomy_device(again)) if again is not None else None

    def _export(self, model: Any, frozen: dict[str, str]) -> None:
        export = Export(
            run=self._run,
            config=self._config,
            checkpoint=self._checkpoint,
            plan=self._plan,
            dtype=self._ready.dtype,
            quantized=self._ready.quantized,
            frozen=frozen,
        )
        self._observer.stage("recording the probe")
        samples = export.probe(model, self._data.train.samples, self._ready.padding_collators())
        self._observer.stage("exporting")
        export.write(
            model,
            samples,
            num_watched=self._proof.num_watched,
            without_gradient=self._proof.without_gradient,
        )
