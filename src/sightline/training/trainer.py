"""The Hugging Face Trainer with an exact loss and learning rates by tower.

What is changed, and why:

- The loss is a token mean over accumulation and ranks. The classes of Qwen2.5-VL and later set
  ``accepts_loss_kwargs = False``, and the Trainer then averages the means of micro-batches: at
  batch 1 and accumulation 8 the update is off by 80 to 98 percent.
- Evaluation is the same token mean, whatever the batch size.
- Parameters are grouped by what the plan says of their rates, so that every part may have its own,
  in every stage. All that trains in any stage is with the optimizer from the start: AdamW passes
  over what has no gradient, so what joins later gets a fresh state and what goes on keeps its own.
- Every micro-batch, its loss and what is logged pass through the watch of the run, if it has one.
- Checkpoints of a model that trains in full keep the names that its weights have in memory.
  ``save_pretrained`` writes those of Qwen2-VL and Qwen2.5-VL under older names, which the Trainer
  does not know when it resumes: it went on from the base weights with a warning. What does not fit
  is refused here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments, get_scheduler

from sightline.data import EncodedSample
from sightline.errors import RunError
from sightline.training.checkpointing import drop_input_hooks
from sightline.training.loss import model_loss
from sightline.training.stages import Evaluation, RateCourse, StageClock
from sightline.training.watching import RunWatch
from sightline.tuning import TuningPlan, enter_stage, owner_of, trained_parameters


def base_schedule(args: TrainingArguments, num_steps: int) -> Callable[[int], float]:
    """The run's one schedule: share of the peak rate at a step, as transformers computes it.

    Args:
        args: The Trainer's arguments.
        num_steps: Optimizer steps of the whole run.
    """
    nothing = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler: Any = get_scheduler(
        args.lr_scheduler_type,
        optimizer=nothing,
        num_warmup_steps=args.get_warmup_steps(num_steps),
        num_training_steps=num_steps,
    )
    return scheduler.lr_lambdas[0]


def past_evaluations(history: Sequence[dict[str, Any]]) -> list[Evaluation]:
    """Validation losses in the log of a run that is resumed."""
    return [
        Evaluation(int(line["step"]), float(line["eval_loss"]))
        for line in history
        if "eval_loss" in line
    ]


def _share_of_peak(course: RateCourse, group: dict[str, Any]) -> Callable[[int], float]:
    rates: tuple[float | None, ...] = tuple(group["rates"])
    peak = max(rate for rate in rates if rate is not None)
    return lambda step: course.rate(rates, step) / peak


class SampleDataset(Dataset[EncodedSample]):
    """Samples, encoded by the worker that needs them; the collator decodes their pixels there."""

    def __init__(self, samples: Sequence[EncodedSample]) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> EncodedSample:
        return self._samples[index]


class SightlineTrainer(Trainer):
    """See the module's docstring.

    Args:
        model: The planned model.
        plan: Its plan, for the towers and their learning rates.
        watch: Watches the run; None where nobody does.
        **trainer: Arguments of `transformers.Trainer`.
    """

    def __init__(
        self, *, model: nn.Module, plan: TuningPlan, watch: RunWatch | None = None, **trainer: Any
    ) -> None:
        if watch is not None:
            # First of ours: what is not finite ends the run before anyone else looks at it.
            trainer["callbacks"] = [watch, *trainer.get("callbacks", ())]
            watch.attach(self._loss_again, lambda: self.stage_number)
        super().__init__(model=model, **trainer)
        self._watch = watch
        self._planned = model
        self._plan = plan
        self.clock: StageClock | None = None
        # The count of supervised tokens is taken over the whole step and handed to compute_loss.
        self.model_accepts_loss_kwargs = True

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Token-exact loss of one micro-batch. Overrides the Trainer's."""
        loss, _ = model_loss(model, inputs, num_items_in_batch)
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            # DDP averages gradients over ranks; the count is already global.
            loss = loss * self.accelerator.num_processes
        if torch.is_grad_enabled() and not loss.requires_grad:
            # Text alone, where only vision or the projector train: it reaches nothing that trains.
            # As a leaf it can go backward, and moves nothing.
            loss = loss.detach().requires_grad_()
        return (loss, {}) if return_outputs else loss

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor | Any],
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """One micro-batch forward and back, watched. Overrides the Trainer's."""
        if self._watch is None:
            return super().training_step(model, inputs, num_items_in_batch)
        self._watch.saw(inputs, num_items_in_batch)
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._watch.check_loss(loss)
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Tell trackers and callbacks what is watched, too. Overrides the Trainer's."""
        super().log(logs if self._watch is None else self._watch.fill(logs), start_time)

    def _loss_again(self, batch: Mapping[str, Any], num_tokens: Any) -> torch.Tensor:
        inputs: Any = self._prepare_inputs(dict(batch))
        with self.compute_loss_context_manager():
            return self.compute_loss(self._planned, inputs, num_items_in_batch=num_tokens)

    def _inner_training_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Train, checkpointing being on. Overrides the Trainer's."""
        drop_input_hooks(self._planned)
        return super()._inner_training_loop(*args, **kwargs)

    @property
    def planned(self) -> nn.Module:
        """The planned model, whatever the Trainer wrapped around it."""
        return self._planned

    @property
    def stage_number(self) -> int:
        """The present stage, from 1."""
        return self.clock.index + 1 if self.clock is not None else 1

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> LambdaLR:
        """The course of every group's rate over the stages. Overrides the Trainer's."""
        if self.lr_scheduler is None:
            optimizer = optimizer if optimizer is not None else self.optimizer
            num_warmup_steps = self.args.get_warmup_steps(num_training_steps)
            base = base_schedule(self.args, num_training_steps)
            self.clock = StageClock(self._plan.stages, num_training_steps)
            # What a resumed run has seen so far stands in its state.
            self.clock.replay(self.state.global_step, past_evaluations(self.state.log_history))
            course = RateCourse(self.clock, base, num_warmup_steps)
            assert optimizer is not None
            self.lr_scheduler = LambdaLR(
                optimizer, [_share_of_peak(course, group) for group in optimizer.param_groups]
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def enter_stage(self) -> None:
        """Let train what the present stage trains, at its rates."""
        assert self.clock is not None
        enter_stage(self._planned, self._plan, self.clock.index)
        scheduler, optimizer = self.lr_scheduler, self.optimizer
        assert isinstance(scheduler, LambdaLR)
        assert optimizer is not None
        step = scheduler.last_epoch
        rates = [
            peak * share(step)
            for peak, share in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
        ]
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        scheduler._last_lr = rates

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW with one group of parameters a tower and decay kind."""
        # What DDP does not see train when it wraps the model, it never reduces: its gradients would
        # stay those of one process. The stage itself is entered when training begins.
        enter_stage(self._planned, self._plan, None)
        if self.optimizer is None:
            optimizer_class, settings = self.get_optimizer_cls_and_kwargs(self.args)
            self.optimizer = optimizer_class(self._groups(), **settings)
        return self.optimizer

    def _groups(self) -> list[dict[str, Any]]:
        """Parameter groups: alike in tower, rates and decay. Biases and norms are not decayed."""
        planned = self._plan.by_name()
        groups: dict[tuple[Any, ...], list[nn.Parameter]] = {}
        for item in trained_parameters(self._planned, self._plan):
            module = planned[owner_of(item)]
            decay = module.weight_decay if item.parameter.ndim > 1 else 0.0
            key = (module.place.tower, module.learning_rates, decay)
            groups.setdefault(key, []).append(item.parameter)
        return [
            {
                "params": parameters,
                "lr": max(rate for rate in rates if rate is not None),
                "weight_decay": decay,
                "tower": tower,
                "rates": rates,
            }
            for (tower, rates, decay), parameters in groups.items()
        ]

    def _save(
        self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None
    ) -> None:
        """Write the weights of a checkpoint. Overrides the Trainer's."""
        model = self.accelerator.unwrap_model(self.model)
        if isinstance(model, PeftModel):
            super()._save(output_dir, state_dict)
            return
        model.save_pretrained(
            output_dir or str(self.args.output_dir),
            state_dict=state_dict,
            is_main_process=self.args.should_save,
            save_original_format=False,
        )

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Refuse weights of a checkpoint that are not all of the model's. The Trainer warns."""
        model = self.accelerator.unwrap_model(self.model)
        tied = set(getattr(model, "all_tied_weights_keys", None) or ())
        missing = [key for key in load_result.missing_keys if key not in tied]
        if missing or load_result.unexpected_keys:
            found = (*missing, *load_result.unexpected_keys)[0]
            raise RunError(
                f"the newest checkpoint has not the weights of this model: {len(missing)} are "
                f"missing and {len(load_result.unexpected_keys)} are unknown, {found} for one.\n"
                "Start the run anew with --overwrite."
            )
        model.tie_weights()

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Mean loss per supervised token over the whole set; the batch size has no effect."""
        model = self._planned
        total = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        model.eval()
        with torch.no_grad():
            for inputs in self.get_eval_dataloader(eval_dataset):
                inputs = self._prepare_inputs(inputs)
                with self.compute_loss_context_manager():
                    loss, own = model_loss(model, inputs, num_tokens=1)
                total += torch.tensor([float(loss), own], device=total.device)
        total = self.accelerator.reduce(total, reduction="sum")
        metrics = {f"{metric_key_prefix}_loss": float(total[0] / total[1])}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics
