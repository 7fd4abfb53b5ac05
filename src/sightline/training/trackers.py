"""Trackers that are told of a run besides its own files."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from transformers import Trainer
from transformers.integrations.integration_utils import (
    TensorBoardCallback,
    get_available_reporting_integrations,
)

from sightline.config import Tracker, TrainingConfig
from sightline.errors import ConfigError
from sightline.records import RunDirectory

_EXTRA: tuple[Tracker, ...] = ("tensorboard", "wandb")
# transformers 5.17 to 5.23 at least does not list it, and looks for it when it is asked for.
_UNLISTED: tuple[Tracker, ...] = ("flyte",)


def refuse_missing_trackers(training: TrainingConfig) -> None:
    """Refuse a tracker whose package is not there, before anything is loaded.

    Args:
        training: The configuration's section.

    Raises:
        ConfigError: Says which, and what to install.
    """
    if not training.report_to:
        return
    there = {*get_available_reporting_integrations(), *_UNLISTED}
    for tracker in training.report_to:
        if tracker not in there:
            bring = (
                "Install it with pip install 'sightline[trackers]'"
                if tracker in _EXTRA
                else "Install its package"
            )
            raise ConfigError(
                f"training.report_to names {tracker}, which transformers does not find here.\n"
                f"{bring}, or take it out of training.report_to."
            )


def write_to_run(trainer: Trainer, run: RunDirectory, *, first_step: int) -> None:
    """Let TensorBoard's files be those of the run, one course over all times it was resumed.

    By default each time has a folder of its own among the checkpoints, where a run without any
    then seems to have some. Where TENSORBOARD_LOGGING_DIR says so, they are elsewhere.

    Args:
        trainer: The trainer of the run, in the process that tells trackers.
        run: The run.
        first_step: The step it begins with: what an earlier time wrote from there on is hidden.
    """
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
            callback.tb_writer = _writer()(log_dir=str(run.tensorboard), purge_step=first_step)


def _writer() -> Any:
    try:
        return import_module("torch.utils.tensorboard").SummaryWriter
    except ImportError:
        # The other package that transformers takes for it.
        return import_module("tensorboardX").SummaryWriter
