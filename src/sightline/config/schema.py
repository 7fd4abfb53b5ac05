"""The run configuration."""

from __future__ import annotations

from pydantic import model_validator

from sightline.config.base import ContradictionError, Section, key
from sightline.config.data import DataConfig
from sightline.config.evaluation import LOWEST, EvaluationConfig
from sightline.config.training import TrainingConfig, VerifyConfig
from sightline.config.tuning import PLATEAU, TuningConfig


class ExportConfig(Section):
    """What is written when training is over."""

    merged: bool = key(
        True,
        "Write one model with the adapter merged into it. The adapter is written in any case. "
        "Refused where the base is quantised: merged into 4 bits, most of the update is lost.",
    )


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
    evaluation: EvaluationConfig = key(
        EvaluationConfig(), "What is measured of answers to held-out data while it trains."
    )
    export: ExportConfig = key(ExportConfig(), "What is written when training is over.")
    verify: VerifyConfig = key(VerifyConfig(), "What is compared after training.")
    output: str = key(..., "Run directory, relative to the working directory.", min_length=1)

    @model_validator(mode="after")
    def _evaluates_something(self) -> RunConfig:
        if self.training.eval_every is not None and not self.data.holds_out:
            raise ContradictionError(
                "training.eval_every",
                f"eval_every is {self.training.eval_every}, but data.eval names no data",
                "Name held-out data in data.eval, or remove eval_every.",
            )
        return self

    @model_validator(mode="after")
    def _knows_the_best(self) -> RunConfig:
        if self.training.best_by is not None and not self.data.holds_out:
            raise ContradictionError(
                "training.best_by",
                f"best_by is {self.training.best_by}, but data.eval names no data",
                "Name held-out data in data.eval, or remove best_by.",
            )
        return self

    @model_validator(mode="after")
    def _answers_something(self) -> RunConfig:
        metrics = self.evaluation.metrics
        if metrics and not self.data.holds_out:
            raise ContradictionError(
                "evaluation.metrics",
                f"metrics names {metrics[0]}, but data.eval names no data",
                "Name held-out data in data.eval, or remove metrics.",
            )
        best = self.training.best_by
        measure = (best or "").removeprefix("eval_")
        if best not in (None, *LOWEST) and measure not in metrics:
            raise ContradictionError(
                "training.best_by",
                f"best_by is {best}, and evaluation.metrics does not name {measure}",
                f"Write evaluation: {{metrics: [{measure}]}}, or remove best_by.",
            )
        return self

    @model_validator(mode="after")
    def _sees_plateaus(self) -> RunConfig:
        for index, stage in enumerate(self.tuning.stages):
            if stage.until == PLATEAU and not self.data.holds_out:
                raise ContradictionError(
                    f"tuning.stages.{index}.until",
                    "plateau looks at the validation loss, but data.eval names no data",
                    "Name held-out data in data.eval, or end the stage at a step or a share.",
                )
        return self

    @model_validator(mode="after")
    def _exports_what_it_can(self) -> RunConfig:
        kind = self.tuning.quantization
        if self.export.merged and kind != "none":
            raise ContradictionError(
                "export.merged",
                f"merged is true, but tuning.quantization is {kind}: an update that is merged "
                "into a quantised base is rounded away",
                "Set export.merged: false; the adapter is exported, and verified on the base that "
                "it trained on.",
            )
        if not self.export.merged and not self.tuning.uses("lora"):
            raise ContradictionError(
                "export.merged",
                "merged is false, and without LoRA there is no adapter to write instead",
                "Remove it, or set a tower to lora.",
            )
        return self
