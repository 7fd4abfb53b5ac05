"""The Hugging Face Trainer with an exact loss and learning rates by tower.

What is changed, and why:

- A step is one item of the Trainer, whatever number of micro-batches it has: they were planned
  from the sizes of the samples, balanced over the ranks, and packed. The Trainer's own
  accumulation takes batches as they come.
- The loss is a token mean over accumulation and ranks. The classes of Qwen2.5-VL and later set
  ``accepts_loss_kwargs = False``, and the Trainer then averages the means of micro-batches: at
  batch 1 and accumulation 8 the update is off by 80 to 98 percent. How many tokens a step
  supervises is known from its plan, so no rank asks another.
- Evaluation is the same token mean, whatever the batch size.
- Parameters are grouped by what the plan says of their rates, so that every part may have its own,
  in every stage. All that trains in any stage is with the optimizer from the start: AdamW passes
  over what has no gradient, so what joins later gets a fresh state and what goes on keeps its own.
- Every micro-batch, its loss and what is logged pass through the watch of the run, if it has one.
- Checkpoints are our own: see `CheckpointingTrainer`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainingArguments, get_scheduler
from transformers import trainer as trainer_module

from sightline.data import Collator
from sightline.training.checkpointing import drop_input_hooks
from sightline.training.checkpoints import CheckpointingTrainer, Origin
from sightline.training.held_out import HeldOutAnswers
from sightline.training.loss import Batch, model_loss
from sightline.training.memory_usage import bytes_in_use
from sightline.training.out_of_memory import Held, InHand
from sightline.training.parallel.trainer import ParallelTrainer
from sightline.training.stages import Evaluation, RateCourse, StageClock
from sightline.training.steps import PlannedStep, StepLoader, TrainingData, on_device
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


class SightlineTrainer(ParallelTrainer, CheckpointingTrainer):
    """See the module's docstring.

    Args:
        model: The planned model.
        plan: Its plan, for the towers and their learning rates.
        data: What is trained on, planned for the ranks of the run.
        eval_data: What it is evaluated on; None where nothing is held out.
        collator: Makes a batch of samples; it packs them where the plan does.
        watch: Watches the run; None where nobody does.
        origin: What the run was started from, for its checkpoints.
        answers: Measures answers to held-out questions; None where none are made.
        **trainer: Arguments of `transformers.Trainer`.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        plan: TuningPlan,
        data: TrainingData,
        collator: Collator,
        eval_data: TrainingData | None = None,
        watch: RunWatch | None = None,
        origin: Origin | None = None,
        answers: HeldOutAnswers | None = None,
        **trainer: Any,
    ) -> None:
        if watch is not None:
            # First of ours: what is not finite ends the run before anyone else looks at it.
            trainer["callbacks"] = [watch, *trainer.get("callbacks", ())]
            watch.attach(self._loss_again, lambda: self.stage_number, lambda: self.hides_gradients)
        # Of the data the Trainer asks only whether they are there.
        held_out: Any = eval_data.samples if eval_data else None
        super().__init__(
            model=model,
            plan=plan,
            origin=origin,
            data_collator=collator,
            eval_dataset=held_out,
            **trainer,
        )
        self._watch = watch
        self._answers = answers
        self._data = data.for_ranks(self.args.world_size)
        self._eval_data = eval_data.for_ranks(self.args.world_size) if eval_data else None
        self._collator = collator
        self._loaders: list[StepLoader] = []
        self._in_hand: InHand | None = None
        self.clock: StageClock | None = None
        self.model_accepts_loss_kwargs = True

    def get_train_dataloader(self) -> Any:
        """The planned steps of this rank. Overrides the Trainer's."""
        return self._loader(self._data)

    def _loader(self, data: TrainingData) -> StepLoader:
        loader = StepLoader(
            data,
            self._collator,
            rank=self.args.process_index,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )
        self._loaders.append(loader)
        return loader

    def get_batch_samples(
        self, epoch_iterator: Iterator[PlannedStep], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """One planned step and the supervised tokens in it. Overrides the Trainer's."""
        step = next(epoch_iterator)
        return [step], step.num_supervised_tokens

    def _run_epoch(self, *args: Any, **kwargs: Any) -> Any:
        """A pass over the data, which may begin in its middle. Overrides the Trainer's."""
        with _steps_skipped_by_plan():
            return super()._run_epoch(*args, **kwargs)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Token-exact loss of one micro-batch. Overrides the Trainer's."""
        loss, _ = model_loss(model, inputs, num_items_in_batch)
        # DDP and FSDP average gradients over ranks; the count is that of the whole step.
        loss = loss * self.accelerator.num_processes
        if torch.is_grad_enabled() and not loss.requires_grad:
            # Text alone, where only vision or the projector train: it reaches nothing that trains.
            # As a leaf it can go backward, and moves nothing.
            loss = loss.detach().requires_grad_()
        return (loss, {}) if return_outputs else loss

    def training_step(
        self,
        model: nn.Module,
        inputs: Any,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """A step forward and back, micro-batch by micro-batch. Overrides the Trainer's."""
        step: PlannedStep = inputs
        self._in_hand = InHand(step, self._data.samples, bytes_in_use())
        model.train()
        losses: list[torch.Tensor] = []
        for number, batch in enumerate(step, start=1):
            if self._watch is not None:
                self._watch.saw(batch, num_items_in_batch)
            is_last = number == step.num_micro_batches
            with self.sharing_gradients(model, is_last=is_last):
                losses.append(self._forward_and_back(model, batch, num_items_in_batch))
        if self._watch is not None:
            self._watch.check_losses(losses)
        return torch.stack(losses).sum()

    def _forward_and_back(self, model: nn.Module, batch: Batch, num_tokens: Any) -> torch.Tensor:
        inputs = on_device(batch, self.args.device)
        with self.compute_loss_context_manager():
            loss = self.compute_loss(model, inputs, num_items_in_batch=num_tokens)
        self.accelerator.backward(loss)
        return loss.detach()

    def floating_point_ops(self, inputs: Any) -> int:
        """Nothing: it would count the parameters for every step. Overrides the Trainer's."""
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Tell trackers and callbacks what is watched, too. Overrides the Trainer's."""
        super().log(logs if self._watch is None else self._watch.fill(logs), start_time)

    def _loss_again(self, batch: Mapping[str, Any], num_tokens: Any) -> torch.Tensor:
        inputs = on_device(dict(batch), self.args.device)
        with self.compute_loss_context_manager():
            return self.compute_loss(self._planned, inputs, num_items_in_batch=num_tokens)

    def _inner_training_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Train, checkpointing being on. Overrides the Trainer's."""
        drop_input_hooks(self._planned)
        try:
            return super()._inner_training_loop(*args, **kwargs)
        except RuntimeError as error:
            for loader in self._loaders:
                loader.explain(error)
            raise
        finally:
            for loader in self._loaders:
                loader.close()
            self._loaders.clear()

    @property
    def held(self) -> Held:
        """What is in hand, for who runs out of memory."""
        return Held() if self._in_hand is None else self._in_hand.held()

    @property
    def planned(self) -> nn.Module:
        """The planned model, whatever the Trainer wrapped around it."""
        return self._planned

    @property
    def steps_an_epoch(self) -> int:
        """Steps of a pass over the data."""
        return self._data.steps.num_steps

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

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Mean loss per supervised token over the whole set; the batch size has no effect.

        With it the measures of answers, where the run makes any. All processes have to call it.
        """
        model = self._planned
        total = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        model.eval()
        with torch.no_grad():
            for batch in self._eval_batches(eval_dataset):
                inputs = on_device(batch, self.args.device)
                with self.compute_loss_context_manager():
                    loss, own = model_loss(model, inputs, num_tokens=1)
                total += torch.tensor([float(loss), own], device=total.device)
        total = self.accelerator.reduce(total, reduction="sum")
        metrics = {f"{metric_key_prefix}_loss": float(total[0] / total[1])}
        if self._answers is not None:
            measured = self._answers.measured(model, self.compute_loss_context_manager)
            metrics |= {f"{metric_key_prefix}_{name}": value for name, value in measured.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _eval_batches(self, data: TrainingData | None) -> Iterator[Batch]:
        data = data if data is not None else self._eval_data
        assert data is not None, "nothing is held out"
        loader = self._loader(data)
        for step in loader:
            self._in_hand = InHand(step, data.samples, None)
            yield from step
        loader.close()
        self._loaders.remove(loader)


@contextmanager
def _steps_skipped_by_plan() -> Iterator[None]:
    """Let a run that is resumed start at a step of the plan.

    The Trainer's own way reads and decodes every batch before it, of a loader of torch's.
    """
    module: Any = trainer_module
    before = module.skip_first_batches
    module.skip_first_batches = lambda loader, count: loader.starting_at(count)
    try:
        yield
    finally:
        module.skip_first_batches = before
