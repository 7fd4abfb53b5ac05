"""Defaults, and what each section takes and refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from sightline.config import (
    Columns,
    DataConfig,
    LoraSettings,
    PartSettings,
    RunConfig,
    Source,
    Stage,
    Tags,
    TrainingConfig,
    TuningConfig,
    VerifyConfig,
    VideoConfig,
)


def test_defaults_of_training() -> None:
    assert TrainingConfig().model_dump() == {
        "epochs": 3.0,
        "max_steps": None,
        "learning_rate": 1e-4,
        "batch_size": 1,
        "gradient_accumulation": 8,
        "tokens_per_step": None,
        "tokens_per_row": None,
        "packing": "auto",
        "scheduler": "cosine",
        "warmup_ratio": 0.03,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "seed": 42,
        "precision": "auto",
        "gradient_checkpointing": True,
        "head_loss": "auto",
        "compile": False,
        "parallel": "ddp",
        "log_every": 1,
        "save_every": None,
        "save_total_limit": 2,
        "best_by": None,
        "eval_every": None,
        "report_to": [],
        "num_workers": 0,
    }


def test_a_step_is_counted_in_samples_or_in_tokens() -> None:
    assert TrainingConfig(tokens_per_step=4096).tokens_per_step == 4096
    # What the resolved configuration of a run says of such a step can be read again.
    written = TrainingConfig(tokens_per_step=4096).model_dump()
    assert TrainingConfig.model_validate(written).tokens_per_step == 4096
    with pytest.raises(ValidationError, match="gradient_accumulation: 4 beside tokens_per_step"):
        TrainingConfig(tokens_per_step=4096, gradient_accumulation=4)


def test_defaults_of_tuning() -> None:
    assert TuningConfig().model_dump() == {
        "language": "lora",
        "projector": "full",
        "vision": "freeze",
        "embeddings": "freeze",
        "head": "freeze",
        "lora": {
            "rank": 16,
            "alpha": 32,
            "dropout": 0.0,
            "dora": False,
            "rslora": False,
            "target_modules": None,
            "modules_to_save": None,
        },
        "quantization": "none",
        "stages": [],
    }


def test_defaults_of_verify() -> None:
    assert VerifyConfig().model_dump() == {
        "enabled": True,
        "samples": 4,
        "answers": "consistent",
        "max_new_tokens": None,
        "logits_tolerance": 1e-3,
    }


def test_defaults_of_data() -> None:
    assert DataConfig(train=[Source(path="a.json")]).model_dump(exclude={"train"}) == {
        "eval": [],
        "eval_share": None,
        "max_length": None,
        "fit": ["shrink", "split", "trim", "drop"],
        "vision_share": 0.5,
        "on_bad": "quarantine",
        "media_check": "header",
        "index_folder": None,
        "max_download_mib": 64,
        "processes": None,
        "preparation": "lean",
        "patch_cache": None,
        "images": {"min_pixels": None, "max_pixels": None, "max_file_pixels": 178_956_970},
        "videos": {
            "fps": 2.0,
            "num_frames": None,
            "min_frames": 4,
            "max_frames": 768,
            "min_pixels": None,
            "max_pixels": None,
        },
    }


def test_names_of_llama_factory_are_the_defaults() -> None:
    assert Columns().model_dump() == {
        "messages": "conversations",
        "images": None,
        "videos": None,
        "system": None,
        "prompt": None,
        "query": None,
        "response": None,
        "history": None,
    }
    assert Tags().model_dump() == {
        "role_tag": "from",
        "content_tag": "value",
        "user_tag": "human",
        "assistant_tag": "gpt",
        "system_tag": "system",
    }


@pytest.mark.parametrize(
    "given",
    [
        "a.json",
        Path("a.json"),
        ["a.json"],
        [Path("a.json")],
        {"path": "a.json"},
        {"path": Path("a.json")},
        [{"path": "a.json"}],
        [Source(path="a.json")],
        Source(path="a.json"),
    ],
    ids=repr,
)
def test_a_source_in_every_form(given: object) -> None:
    assert DataConfig.model_validate({"train": given}).train == [Source(path="a.json")]


def test_sources_of_several_forms_keep_their_order() -> None:
    given = ["a.json", {"path": "b.json", "name": "demo"}]
    assert DataConfig.model_validate({"train": given, "eval": "c.json"}).train == [
        Source(path="a.json"),
        Source(path="b.json", name="demo"),
    ]


def test_auto_is_the_default_format() -> None:
    assert Source.model_validate({"path": "a", "format": "auto"}) == Source(path="a")


def test_a_section_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        TrainingConfig().epochs = 1.0


@pytest.mark.parametrize("section", [RunConfig, DataConfig, Source, TuningConfig, LoraSettings])
def test_an_unknown_key_is_refused_in_every_section(section: type[RunConfig]) -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        section.model_validate({"nonsense": 1})


@pytest.mark.parametrize(
    ("section", "name", "refused", "accepted"),
    [
        (TrainingConfig, "epochs", 0, 0.5),
        (TrainingConfig, "max_steps", 0, 1),
        (TrainingConfig, "learning_rate", -1e-4, 1e-9),
        (PartSettings, "learning_rate", 0.0, 1e-9),
        (PartSettings, "rank", 0, 1),
        (PartSettings, "weight_decay", -0.1, 0.0),
        (Stage, "patience", 0, 1),
        (Stage, "min_delta", 1.0, 0.0),
        (Stage, "learning_rate_factor", 0.0, 0.1),
        (TrainingConfig, "batch_size", 0, 1),
        (TrainingConfig, "gradient_accumulation", 0, 1),
        (TrainingConfig, "warmup_ratio", 1.0, 0.0),
        (TrainingConfig, "weight_decay", -0.1, 0.0),
        (TrainingConfig, "max_grad_norm", 0.0, 0.1),
        (TrainingConfig, "seed", -1, 0),
        (TrainingConfig, "log_every", 0, 1),
        (TrainingConfig, "save_every", 0, 1),
        (TrainingConfig, "save_total_limit", 0, 1),
        (TrainingConfig, "eval_every", 0, 1),
        (TrainingConfig, "num_workers", -1, 0),
        (LoraSettings, "rank", 0, 1),
        (LoraSettings, "alpha", 0, 1),
        (LoraSettings, "dropout", 1.0, 0.0),
        (VerifyConfig, "samples", 0, 1),
        (VerifyConfig, "max_new_tokens", 0, 1),
        (VerifyConfig, "logits_tolerance", 0.0, 1e-9),
        (VideoConfig, "fps", 0, 0.1),
        (VideoConfig, "min_frames", 1, 2),
        (VideoConfig, "max_pixels", 0, 1),
    ],
)
def test_limits(section: type[RunConfig], name: str, refused: float, accepted: float) -> None:
    assert getattr(section.model_validate({name: accepted}), name) == accepted
    with pytest.raises(ValidationError):
        section.model_validate({name: refused})


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("epochs", "3"),
        ("epochs", True),
        ("epochs", float("nan")),
        ("epochs", float("inf")),
        ("batch_size", True),
        ("batch_size", 1.5),
        ("batch_size", "1"),
        ("gradient_checkpointing", "yes"),
        ("gradient_checkpointing", 1),
        ("report_to", 3),
        ("report_to", True),
    ],
)
def test_no_type_is_guessed(name: str, given: object) -> None:
    with pytest.raises(ValidationError):
        TrainingConfig.model_validate({name: given})


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("wandb", ["wandb"]),
        (["wandb", "mlflow"], ["wandb", "mlflow"]),
        ("none", []),
        (["none"], []),
    ],
)
def test_a_tracker_may_stand_alone(given: object, names: list[str]) -> None:
    assert TrainingConfig.model_validate({"report_to": given}).report_to == names


@pytest.mark.parametrize("given", ["all", ["wandb", "none"], ["wandb", "wandb"], "tensorbord"])
def test_a_tracker_that_is_none_is_refused(given: object) -> None:
    with pytest.raises(ValidationError):
        TrainingConfig.model_validate({"report_to": given})


def test_a_whole_float_is_a_whole_number() -> None:
    config = TrainingConfig.model_validate({"max_steps": 1e3, "epochs": 2.0})
    assert (config.max_steps, config.epochs) == (1000, 2.0)
    assert (type(config.max_steps), type(config.epochs)) == (int, float)


@pytest.mark.parametrize("precision", ["fp16", "float16", "half"])
def test_half_precision_is_no_choice(precision: str) -> None:
    """Activations of these models overflow it (QwenLM/Qwen3-VL#195, transformers#33294)."""
    with pytest.raises(ValidationError, match="'auto', 'bf16' or 'fp32'"):
        TrainingConfig.model_validate({"precision": precision})
