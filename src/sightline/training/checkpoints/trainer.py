"""The Trainer with checkpoints of our own: whole or not there, verified, and without a pickle.

What the Trainer's own lack: a log interval that was cut, one file of all processes for any number
of processes, digests, and the evaluation of an epoch whose last step was saved before it.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Trainer, TrainerState
from transformers.trainer_callback import ExportableState

from sightline.errors import RunError
from sightline.records import atomic_directory, read_json, write_json
from sightline.training.checkpoints import content
from sightline.training.checkpoints.borders import SaveLast, is_evaluation_due
from sightline.training.checkpoints.folder import STATE, folder_of, rotate
from sightline.training.checkpoints.manifest import fault_of, sync_folder, write_manifest
from sightline.training.checkpoints.origin import Origin
from sightline.training.checkpoints.random_state import random_states
from sightline.training.checkpoints.tensors import WrittenFile
from sightline.training.movement import tensor_names
from sightline.training.ranks import from_all, from_first, this_rank, together
from sightline.tuning import TuningPlan, trained_parameters

SCHEMA = 1
TRAINER_STATE = "trainer_state.json"


class CheckpointingTrainer(Trainer):
    """See the module's docstring.

    ``save_total_limit`` checkpoints are kept beside the best, which the Trainer counts among them.

    Args:
        model: The planned model.
        plan: Its plan: what trains in any stage is saved, and nothing else.
        origin: What the run was started from, kept in every checkpoint; None keeps none.
        **trainer: Arguments of `transformers.Trainer`.
    """

    def __init__(
        self, *, model: nn.Module, plan: TuningPlan, origin: Origin | None = None, **trainer: Any
    ) -> None:
        super().__init__(model=model, **trainer)
        self._planned = model
        self._plan = plan
        self._origin = origin
        self._num_kept = self.args.save_total_limit
        self.args.save_total_limit = None
        # Not before: its arguments want a checkpoint at every evaluation, and here the best is
        # saved whenever it is found.
        self.args.load_best_model_at_end = self.args.metric_for_best_model is not None
        self._save_last = SaveLast()
        self.add_callback(self._save_last)
        # What is taken up when the loop that is resumed has reset it: folder and state.
        self._taken_up: tuple[str, dict[str, Any]] | None = None

    # Saving.

    def write_engine_state(self, folder: Path, is_writer: bool) -> list[WrittenFile]:
        """Write weights and optimizer. An engine with a format of its own overrides it.

        All processes call it with the same folder, and must meet each other equally often in it
        whether or not they fail.

        Args:
            folder: Where to; it becomes the checkpoint when everything is written.
            is_writer: Whether this process is the one that writes what all share.

        Returns:
            Files whose digests are known, in the writing process.

        Raises:
            RunError: It cannot be written.
        """
        place = folder if is_writer else None
        return [
            *content.write_weights(place, self._trained()),
            *content.write_optimizer(place, self.optimizer, self._trained()),
        ]

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint. Overrides the Trainer's."""
        self.store_flos()
        step, run = self.state.global_step, Path(self._get_output_dir(trial))
        path = folder_of(run, step)
        self._point_at_best(run)
        is_writer = this_rank() == 0
        with ExitStack() as stack:
            building: Path | None = None
            with together():
                if is_writer:
                    building = stack.enter_context(atomic_directory(path, replace=True))
            folder = from_first(building)
            assert folder is not None
            with together():
                known = self.write_engine_state(folder, is_writer)
            ranks = from_all(random_states())
            state = self._own_state()
            with together():
                if is_writer:
                    known += content.write_random_states(folder, ranks)
                    write_json(folder / STATE, state)
                    self._trainer_state().save_to_json(str(folder / TRAINER_STATE))
                    write_manifest(folder, known)
            with together():
                # What was built gets its name here.
                stack.pop_all().close()
                if is_writer:
                    sync_folder(run)
                    self._rotate(run)

    def _rotate(self, run: Path) -> None:
        rotate(
            run,
            step=self.state.global_step,
            num_kept=self._num_kept,
            best=self.state.best_global_step,
        )

    def _own_state(self) -> dict[str, Any]:
        """The content of ``state.json``; all processes have to ask."""
        scheduler: Any = self.lr_scheduler
        return {
            "schema": SCHEMA,
            "step": self.state.global_step,
            "scheduler": scheduler.state_dict(),
            "interval": {
                "losses": from_all(float(self._tr_loss)),
                "total_loss": float(self._total_loss_scalar),
                "last_logged": int(self._globalstep_last_logged),
            },
            "evaluation_due": is_evaluation_due(self.args, self.state),
            "origin": self._origin.record() if self._origin is not None else None,
        }

    def _trainer_state(self) -> TrainerState:
        """The Trainer's state, with those of callbacks that have one."""
        states: dict[str, Any] = {}
        for callback in [*self.callback_handler.callbacks, self.control]:
            if isinstance(callback, ExportableState):
                states[type(callback).__name__] = callback.state()
        self.state.stateful_callbacks = states  # pyright: ignore[reportAttributeAccessIssue]
        return self.state

    def _point_at_best(self, run: Path) -> None:
        best = self.state.best_global_step
        if not best:
            return
        folder = folder_of(run, best)
        if best == self.state.global_step or folder.is_dir():
            self.state.best_model_checkpoint = str(folder)

    def _determine_best_metric(self, metrics: Any, trial: Any) -> bool:
        """Save what is the best so far, whatever is due. Overrides the Trainer's."""
        is_best = super()._determine_best_metric(metrics=metrics, trial=trial)
        if is_best:
            self._save_last.asked(self.state, self.control)
        return is_best

    # Going on.

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load the weights that train. Overrides the Trainer's."""
        with together():
            content.load_weights(Path(resume_from_checkpoint), self._trained())

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load the optimizer and the schedule. Overrides the Trainer's."""
        if checkpoint is None:
            return
        folder = Path(checkpoint)
        with together():
            if not self.is_deepspeed_enabled:
                # DeepSpeed has loaded its own.
                content.load_optimizer_state(folder, self.optimizer, self._trained())
            state = read_json(folder / STATE)
            scheduler: Any = self.lr_scheduler
            scheduler.load_state_dict(state["scheduler"])
            self._taken_up = checkpoint, state

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Set the random number generators of this process. Overrides the Trainer's."""
        if checkpoint is not None:
            content.load_random_states(Path(checkpoint), this_rank())

    def _load_best_model(self) -> None:
        """Load the weights of the best checkpoint. Overrides the Trainer's."""
        assert self.state.best_model_checkpoint is not None
        folder = Path(self.state.best_model_checkpoint)
        with together():
            if this_rank() == 0 and (fault := fault_of(folder)) is not None:
                raise RunError(
                    f"{folder} is the best checkpoint, and cannot be used: {fault}.\n"
                    "Put it back, or start the run anew with --overwrite."
                )
        self._load_from_checkpoint(str(folder))

    def _init_training_state(self, max_steps: int, *args: Any, **kwargs: Any) -> Any:
        """Take the state of a checkpoint, for the run as it is now. Overrides the Trainer's."""
        found = super()._init_training_state(max_steps, *args, **kwargs)
        if self.state.global_step:
            if self.state.max_steps != max_steps:
                raise RunError(
                    f"the run had {self.state.max_steps} steps and would now have {max_steps}.\n"
                    "Go on with as many processes and samples a step as before, or start the run "
                    "anew with --overwrite."
                )
            # How often to save may be another now, and the run may have been moved.
            self.state.compute_steps(self.args, max_steps)
            run = Path(str(self.args.output_dir))
            self._point_at_best(run)
            with together():
                # Killed after a save and before the older ones went: there may be no more saves.
                if this_rank() == 0:
                    self._rotate(run)
        return found

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """One epoch, or what is left of it. Overrides the Trainer's."""
        self._take_up()
        if self.state.global_step >= self.state.max_steps:
            # Killed after the last step and within an epoch: the Trainer would make one more.
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **kwargs)

    def _finalize_training(self, *args: Any, **kwargs: Any) -> Any:
        """The end of training, also where no epoch was left. Overrides the Trainer's."""
        self._take_up()
        return super()._finalize_training(*args, **kwargs)

    def _take_up(self) -> None:
        """Go on behind a checkpoint: the log interval, and an evaluation that a stop took away."""
        if self._taken_up is None:
            return
        (folder, state), self._taken_up = self._taken_up, None
        self._load_rng_state(folder)
        self._go_on_logging(state["interval"])
        if state["evaluation_due"]:
            self._save_last.begin_anew(self.control)
            model: Any = self.model
            epoch = float(self.state.epoch or 0.0)
            self._maybe_log_save_evaluate(
                self._tr_loss, None, model, None, epoch, None, time.time()
            )

    def _go_on_logging(self, interval: dict[str, Any]) -> None:
        losses = interval["losses"]
        rank = this_rank()
        # With another number of processes each has their mean, which is what is logged.
        is_same = len(losses) == len(from_all(rank))
        own = losses[rank] if is_same else sum(losses) / len(losses)
        self._tr_loss += torch.tensor(own, dtype=self._tr_loss.dtype, device=self._tr_loss.device)
        self._total_loss_scalar = interval["total_loss"]
        self._globalstep_last_logged = interval["last_logged"]

    def _trained(self) -> dict[str, nn.Parameter]:
        """What trains in any stage, by name; FSDP puts other parameters in place of the first."""
        items = trained_parameters(self._planned, self._plan)
        return dict(zip(tensor_names(items), (item.parameter for item in items), strict=True))
