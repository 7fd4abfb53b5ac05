"""The run configuration."""

from __future__ import annotations

from pydantic import model_validator

from sightline.config.base import ContradictionError, Section, key
from sightline.config.data import DataConfig
from sightline.config.training import TrainingConfig, VerifyConfig
from sightline.config.tuning import TuningConfig


class RunConfig(Section):
    """Everything that decides a run."""

    model: str = key(
        ...,
        "A hub id or a folder. tiny:FAMILY makes a tiny random model, to try a run.",
        min_length=1,
    )
    data: DataConfig = key(..., "What the run learns from.")
    tuning: TuningConfig = key(TuningConfig(), "What trains, and how.")
    training: TrainingConfig = key(TrainingConfig(), "The optimizer's course.")
    verify: VerifyConfig = key(VerifyConfig(), "What is compared after training.")
    output: str = key(..., "Run directory, relative to the working directory.", min_length=1)

    @model_validator(mode="after")
    def _evaluates_something(self) -> RunConfig:
        if self.training.eval_every is not None and not self.data.eval:
            raise ContradictionError(
                "training.eval_every",
                f"eval_every is {self.training.eval_every}, but data.eval names no data",
                "Name held-out data in data.eval, or remove eval_every.",
            )
        return self
