"""Trackers: one that is missing is refused, and TensorBoard's files are the run's, one course."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args
from unittest.mock import MagicMock

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from transformers import Trainer, TrainingArguments
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from sightline.config import Tracker, TrainingConfig
from sightline.errors import ConfigError
from sightline.records import RunDirectory
from sightline.training import trackers
from sightline.training.trackers import refuse_missing_trackers, watch_trackers


class Number(nn.Module):
    """A number that is to be nought."""

    def __init__(self) -> None:
        super().__init__()
        self.number = nn.Parameter(torch.ones(1))

    def forward(self, wanted: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": (self.number - wanted).square().mean()}


def trained(run: RunDirectory, *, after: int = 0, spoil: str = "") -> list[str]:
    """Four steps, or what is left of them after a checkpoint; returns what was noted.

    Args:
        run: The run.
        after: Number of the checkpoint; 0 for none.
        spoil: An event that the tracker fails at.
    """
    noted: list[str] = []
    arguments = TrainingArguments(
        output_dir=str(run.checkpoints),
        max_steps=4,
        save_steps=2,
        logging_steps=1,
        report_to="tensorboard",
        disable_tqdm=True,
        use_cpu=True,
    )
    data: Any = [{"wanted": torch.zeros(1)}] * 8
    trainer = Trainer(model=Number(), args=arguments, train_dataset=data)
    failing = MagicMock(side_effect=OSError("no space left\nand more"))
    if spoil:
        [board] = [x for x in trainer.callback_handler.callbacks if "Board" in type(x).__name__]
        setattr(board, spoil, failing)
    watch_trackers(trainer, run, first_step=after + 1, note=noted.append)
    trainer.train(
        resume_from_checkpoint=str(run.checkpoints / f"checkpoint-{after}") if after else None
    )
    assert trainer.state.global_step == 4
    assert failing.call_count == bool(spoil)
    return noted


def steps_told(folder: Path) -> list[int]:
    return [event.step for event in EventAccumulator(str(folder)).Reload().Scalars("train/loss")]


def test_what_can_be_named_is_what_the_trainer_knows() -> None:
    assert set(get_args(Tracker)) == set(INTEGRATION_TO_CALLBACK)


@pytest.mark.parametrize(
    ("tracker", "bring"),
    [("wandb", "pip install 'sightline[trackers]'"), ("mlflow", "Install its package, or take")],
)
def test_a_tracker_that_is_missing_is_refused(
    monkeypatch: pytest.MonkeyPatch, tracker: str, bring: str
) -> None:
    monkeypatch.setattr(trackers, "get_available_reporting_integrations", lambda: ["tensorboard"])
    training = TrainingConfig.model_validate({"report_to": ["tensorboard", tracker]})
    with pytest.raises(ConfigError, match=f"training.report_to names {tracker}, ") as refusal:
        refuse_missing_trackers(training)
    assert bring in str(refusal.value)


def test_one_that_is_there_is_not_refused() -> None:
    refuse_missing_trackers(TrainingConfig.model_validate({"report_to": "tensorboard"}))
    refuse_missing_trackers(TrainingConfig())


def test_a_resumed_run_is_one_course(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run")
    assert trained(run) == []
    assert steps_told(run.tensorboard) == [1, 2, 3, 4]
    assert trained(run, after=2) == []
    assert steps_told(run.tensorboard) == [1, 2, 3, 4]
    # A folder among the checkpoints would pass for one where a run has none yet.
    assert {path.name for path in run.checkpoints.iterdir()} == {"checkpoint-2", "checkpoint-4"}


def test_another_folder_can_be_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    run = RunDirectory.create(tmp_path / "run")
    trained(run)
    assert steps_told(tmp_path / "board") == [1, 2, 3, 4]
    assert not run.tensorboard.exists()


def test_one_that_does_not_start_refuses_the_run(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run")
    with pytest.raises(
        ConfigError, match="names tensorboard, which does not start: no space left\n"
    ):
        trained(run, spoil="on_train_begin")


@pytest.mark.parametrize("event", ["on_log", "on_save", "on_train_end"])
def test_one_that_fails_later_is_given_up_and_the_run_goes_on(tmp_path: Path, event: str) -> None:
    run = RunDirectory.create(tmp_path / "run")
    [noted] = trained(run, spoil=event)
    assert noted.startswith("tensorboard fails and is not told any more (no space left); ")
