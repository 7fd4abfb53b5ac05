"""Sections ``training`` and ``verify``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import field_validator, model_validator

from sightline.config.base import ContradictionError, Section, key, refuse_twice
from sightline.config.evaluation import Best

Tracker = Literal[
    "tensorboard",
    "wandb",
    "azure_ml",
    "clearml",
    "codecarbon",
    "comet_ml",
    "dagshub",
    "dvclive",
    "flyte",
    "kubeflow",
    "mlflow",
    "neptune",
    "swanlab",
    "trackio",
]
"""Those that the Trainer of transformers knows."""


class TrainingConfig(Section):
    """The optimizer's course."""

    epochs: float = key(3.0, "Passes over the data.", unit="epochs", gt=0)
    max_steps: int | None = key(None, "Stop after so many; null for epochs.", unit="steps", gt=0)
    learning_rate: float = key(
        1e-4, "Peak rate of everything without its own, tuning.vision.learning_rate for one.", gt=0
    )
    batch_size: int = key(1, "Samples in a forward pass.", unit="samples a device", gt=0)
    gradient_accumulation: int = key(
        8, "Forward passes in a step. The loss is a token mean over all of them.", gt=0
    )
    tokens_per_step: int | None = key(
        None,
        "Size of a step, over all devices, in place of batch_size and gradient_accumulation.",
        unit="tokens",
        gt=0,
    )
    tokens_per_row: int | None = key(
        None,
        "Most tokens in a forward pass of a device; a sample that is longer goes alone. Null: "
        "what batch_size says, or 8192 with tokens_per_step.",
        unit="tokens a device",
        gt=0,
    )
    packing: Literal["auto", "on", "off"] = key(
        "auto",
        "Lay samples of a forward pass end to end, each seeing itself alone, in place of padding "
        "them. auto: where the model can.",
    )
    scheduler: Literal["cosine", "linear", "constant", "constant_with_warmup"] = key(
        "cosine", "Course of the learning rate after warm-up."
    )
    warmup_ratio: float = key(0.03, "Share of steps in which the rate rises.", ge=0, lt=1)
    weight_decay: float = key(
        0.0, "AdamW's decay of weight matrices, where tuning says no other.", ge=0
    )
    max_grad_norm: float = key(1.0, "Gradients are scaled down to this norm.", gt=0)
    seed: int = key(42, "Seed of data order and initialisation.", ge=0)
    precision: Literal["auto", "bf16", "fp32"] = key(
        "auto", "Dtype of weights and arithmetic; auto is bf16 on a GPU that has it."
    )
    gradient_checkpointing: bool = key(
        True, "Compute activations twice to hold fewer. Always the non-reentrant kind."
    )
    head_loss: Literal["auto", "torch", "chunked", "liger"] = key(
        "auto",
        "What computes head and loss, of supervised tokens alone. auto: torch's own where it has "
        "one, chunked where not. liger: on a GPU, with pip install 'sightline[liger]'.",
    )
    compile: bool = key(False, "Compile the model's blocks; the first steps take minutes.")
    parallel: Literal["ddp", "fsdp", "zero1", "zero2", "zero3"] = key(
        "ddp",
        "With several processes: ddp has the whole model in each, fsdp (FSDP2) a share of it; "
        "zero1 to zero3 are DeepSpeed's, with pip install 'sightline[deepspeed]'.",
    )
    log_every: int = key(1, "Write a line of metrics.", unit="steps", gt=0)
    save_every: int | None = key(
        None, "Write a checkpoint; null is the end of every epoch.", unit="steps", gt=0
    )
    save_total_limit: int = key(2, "Checkpoints kept, beside the best.", gt=0)
    best_by: Best | None = key(
        None,
        "Keep the checkpoint with the lowest loss on held-out data, or the highest of a measure in "
        "evaluation.metrics, and export that one instead of the last.",
    )
    eval_every: int | None = key(
        None, "Evaluate; null is the end of every epoch, if there is data.", unit="steps", gt=0
    )
    report_to: list[Tracker] = key(
        [], "Trackers that are told of the run besides its own files, one or a list."
    )
    num_workers: int = key(0, "Processes that decode media.", unit="processes", ge=0)

    @field_validator("report_to", mode="before")
    @classmethod
    def _as_trackers(cls, given: Any) -> Any:
        # The Trainer takes one without a list, and "none" for no tracker.
        if given in (None, "none", ["none"]):
            return []
        return [given] if isinstance(given, str) else given

    @field_validator("report_to")
    @classmethod
    def _each_tracker_once(cls, given: list[Tracker]) -> list[Tracker]:
        refuse_twice(given, "tracker")
        return given

    @model_validator(mode="after")
    def _one_size_of_a_step(self) -> TrainingConfig:
        # Not by what is written: the resolved configuration of a run writes every key.
        defaults = TrainingConfig.model_fields
        given = ("batch_size", "gradient_accumulation")
        both = [name for name in given if getattr(self, name) != defaults[name].default]
        if self.tokens_per_step is not None and both:
            raise ContradictionError(
                both[0],
                f"{getattr(self, both[0])} beside tokens_per_step: {self.tokens_per_step}",
                "A step is counted in samples or in tokens: leave one of them out.",
            )
        return self


class VerifyConfig(Section):
    """What is compared after training."""

    enabled: bool = key(True, "Verify at the end of sightline train.")
    samples: int = key(4, "Training samples that are compared.", unit="samples", gt=0)
    answers: Literal["consistent", "memorised"] = key(
        "consistent",
        "consistent: what the model predicts word by word it must also write. memorised: besides, "
        "every compared answer must equal its annotation.",
    )
    max_new_tokens: int | None = key(
        None, "Bound on an answer; null is the annotation's length plus 8.", unit="tokens", gt=0
    )
    logits_tolerance: float = key(
        1e-3, "Largest difference of two logits that counts as equal, in fp32.", gt=0
    )
