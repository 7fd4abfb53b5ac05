"""Trackers that are told of a run besides its own files, and cannot end it once it trains."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from transformers import Trainer, TrainerCallback
from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    TensorBoardCallback,
    get_available_reporting_integrations,
)

from sightline.config import Tracker, TrainingConfig
from sightline.errors import ConfigError, first_line
from sightline.records import RunDirectory

_EXTRA: tuple[Tracker, ...] = ("tensorboard", "wandb")
# transformers 5.17 to 5.23 at least does not list it, and looks for it when it is asked for.
_UNLISTED: tuple[Tracker, ...] = ("flyte",)
_EVENTS = [name for name in vars(TrainerCallback) if name.startswith("on_")]


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


def watch_trackers(
    trainer: Trainer, run: RunDirectory, *, first_step: int, note: Callable[[str], None]
) -> None:
    """Refuse trackers that do not start, and give up those that fail later.

    TensorBoard's files are those of the run, one course over all times that it was resumed. By
    default each time has a folder of its own among the checkpoints, where a run without any then
    seems to have some. Where TENSORBOARD_LOGGING_DIR says so, they are elsewhere.

    Args:
        trainer: The trainer of the run, in the process that tells trackers.
        run: The run.
        first_step: The step it begins with: what an earlier time wrote from there on is hidden.
        note: Told of one that is given up.
    """
    names = {kind: name for name, kind in INTEGRATION_TO_CALLBACK.items()}
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
            callback.tb_writer = _writer()(log_dir=str(run.tensorboard), purge_step=first_step)
        if type(callback) in names:
            _guard(callback, names[type(callback)], note)


def _guard(callback: TrainerCallback, tracker: str, note: Callable[[str], None]) -> None:
    """Let a tracker refuse a run that begins, and be silent after any other fault of its own."""
    is_given_up = False

    def guarded(event: str, tell: Callable[..., Any]) -> Callable[..., Any]:
        def told(*given: Any, **named: Any) -> Any:
            nonlocal is_given_up
            if is_given_up:
                return None
            try:
                return tell(*given, **named)
            # Of any kind: a key that is missing, a server that is gone, a disk that is full.
            except Exception as error:
                said = first_line(error)
                if event == "on_train_begin":
                    raise ConfigError(
                        f"training.report_to names {tracker}, which does not start: {said}\n"
                        f"Set {tracker} up as its own documents say, or take it out of "
                        "training.report_to."
                    ) from error
                is_given_up = True
                note(f"{tracker} fails and is not told any more ({said}); metrics.jsonl goes on")
                return None

        return told

    for event in _EVENTS:
        setattr(callback, event, guarded(event, getattr(callback, event)))


def _writer() -> Any:
    try:
        return import_module("torch.utils.tensorboard").SummaryWriter
    except ImportError:
        # The other package that transformers takes for it.
        return import_module("tensorboardX").SummaryWriter
