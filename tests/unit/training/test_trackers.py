"""Trackers: one that is missing is refused, and TensorBoard's files are the run's, one course."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

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
from sightline.training.trackers import refuse_missing_trackers, write_to_run


class Number(nn.Module):
    """A number that is to be nought."""

    def __init__(self) -> None:
        super().__init__()
        self.number = nn.Parameter(torch.ones(1))

    def forward(self, wanted: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": (self.number - wanted).square().mean()}


def trained(run: RunDirectory, *, after: int = 0) -> None:
    """Four steps, or what is left of them after a checkpoint."""
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
    write_to_run(trainer, run, first_step=after + 1)
    trainer.train(
        resume_from_checkpoint=str(run.checkpoints / f"checkpoint-{after}") if after else None
    )


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
    trained(run)
    assert steps_told(run.tensorboard) == [1, 2, 3, 4]
    trained(run, after=2)
    assert steps_told(run.tensorboard) == [1, 2, 3, 4]
    # A folder among the checkpoints would pass for one where a run has none yet.
    assert {path.name for path in run.checkpoints.iterdir()} == {"checkpoint-2", "checkpoint-4"}


def test_another_folder_can_be_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    run = RunDirectory.create(tmp_path / "run")
    trained(run)
    assert steps_told(tmp_path / "board") == [1, 2, 3, 4]
    assert not run.tensorboard.exists()
