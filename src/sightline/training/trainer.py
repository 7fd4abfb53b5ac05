"""The Hugging Face Trainer with an exact loss and learning rates by tower.

What is changed, and why:

- The loss is a token mean over accumulation and ranks. The classes of Qwen2.5-VL and later set
  ``accepts_loss_kwargs = False``, and the Trainer then averages the means of micro-batches: at
  batch 1 and accumulation 8 the update is off by 80 to 98 percent.
- Evaluation is the same token mean, whatever the batch size.
- Parameters are grouped by tower, so that each tower may have its own learning rate.
- Checkpoints of a model that trains in full keep the names that its weights have in memory.
  ``save_pretrained`` writes those of Qwen2-VL and Qwen2.5-VL under older names, which the Trainer
  does not know when it resumes: it went on from the base weights with a warning. What does not fit
  is refused here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer

from sightline.data import EncodedSample
from sightline.errors import RunError
from sightline.training.loss import model_loss
from sightline.tuning import TuningPlan, named_parameters, owner_of


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
        **trainer: Arguments of `transformers.Trainer`.
    """

    def __init__(self, *, model: nn.Module, plan: TuningPlan, **trainer: Any) -> None:
        super().__init__(model=model, **trainer)
        self._planned = model
        self._plan = plan
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
        return (loss, {}) if return_outputs else loss

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW with one group of parameters a tower and decay kind."""
        if self.optimizer is None:
            optimizer_class, settings = self.get_optimizer_cls_and_kwargs(self.args)
            self.optimizer = optimizer_class(self._groups(), **settings)
        return self.optimizer

    def _groups(self) -> list[dict[str, Any]]:
        """Parameter groups: alike in tower, rates and decay. Biases and norms are not decayed."""
        planned = self._plan.by_name()
        groups: dict[tuple[Any, ...], list[nn.Parameter]] = {}
        for item in named_parameters(self._planned):
            module = planned[owner_of(item)]
            if item.is_copy or not (item.is_adapter or module.mode == "full"):
                continue
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
