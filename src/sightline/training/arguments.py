"""The configuration in the Trainer's words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from sightline.config import LOWEST, TrainingConfig
from sightline.training.parallel.zero import deepspeed_config


def training_arguments(
    training: TrainingConfig, *, directory: Path, bf16: bool, evaluates: bool, **others: Any
) -> TrainingArguments:
    """Arguments of the Trainer for a run.

    Args:
        training: The configuration's section.
        directory: Where checkpoints go.
        bf16: Whether forward and backward run in bf16 autocast.
        evaluates: Whether there is evaluation data.
        **others: Further arguments, such as those of a launcher.
    """
    by_epoch = training.save_every is None
    eval_by_epoch = training.eval_every is None
    arguments = TrainingArguments(
        output_dir=str(directory),
        num_train_epochs=training.epochs,
        max_steps=training.max_steps if training.max_steps is not None else -1,
        learning_rate=training.learning_rate,
        per_device_train_batch_size=training.batch_size,
        per_device_eval_batch_size=training.batch_size,
        # A step is one item of the Trainer; its micro-batches are in its plan.
        gradient_accumulation_steps=1,
        lr_scheduler_type=training.scheduler,
        warmup_steps=training.warmup_ratio,
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        seed=training.seed,
        data_seed=training.seed,
        bf16=bf16,
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=training.gradient_checkpointing,
        # The reentrant kind loses every vision gradient when the patch embedding is frozen.
        gradient_checkpointing_kwargs={"use_reentrant": False},
        logging_strategy="steps",
        logging_steps=training.log_every,
        logging_first_step=True,
        # By default a loss that is NaN is logged as the mean of those before it.
        logging_nan_inf_filter=False,
        save_strategy="epoch" if by_epoch else "steps",
        save_steps=training.save_every if training.save_every is not None else 500,
        save_total_limit=training.save_total_limit,
        eval_strategy="no" if not evaluates else "epoch" if eval_by_epoch else "steps",
        eval_steps=training.eval_every,
        metric_for_best_model=training.best_by,
        greater_is_better=None if training.best_by is None else training.best_by not in LOWEST,
        report_to=list(training.report_to) or "none",
        # What trackers call it.
        run_name=directory.parent.resolve().name,
        dataloader_num_workers=training.num_workers,
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
        disable_tqdm=True,
        average_tokens_across_devices=True,
        # Later stages train what an earlier one does not, and a text-only batch reaches no tower
        # of vision.
        ddp_find_unused_parameters=True,
        deepspeed=deepspeed_config(training, bf16=bf16),
        **others,
    )
    # Several devices are used through one process each; DataParallel would split position ids
    # along the wrong dimension.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments
