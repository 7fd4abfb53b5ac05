"""A LLaMA-Factory training file as a run.yaml."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from sightline.config import load_config
from sightline.errors import ConfigError, ModelError, SightlineError
from sightline.interop.imported import Carried, Imported, render_yaml
from sightline.interop.llamafactory_config import import_llamafactory

LEAST = {"model_name_or_path": "Qwen/Qwen2.5-VL-3B-Instruct", "dataset": "demo"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data").mkdir()
    declared = {"demo": {"file_name": "demo.json"}, "large": {"file_name": "large.jsonl"}}
    (tmp_path / "data/dataset_info.json").write_text(json.dumps(declared))
    (tmp_path / "data/demo.json").write_text("[{}, {}, {}]")
    (tmp_path / "data/large.jsonl").write_text("{}\n" * 9)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def imported(folder: Path, **keys: Any) -> Imported:
    config = folder / "train.yaml"
    config.write_text(yaml.safe_dump(LEAST | keys))
    return import_llamafactory(config, folder=folder)


def row(result: Imported, key: str) -> Carried:
    return next(row for row in result.rows if row.key == key)


def refusal(folder: Path, **keys: Any) -> str:
    with pytest.raises(SightlineError) as caught:
        imported(folder, **keys)
    return str(caught.value)


def test_their_defaults_that_are_not_ours_are_written(folder: Path) -> None:
    assert imported(folder).values == {
        "model": "Qwen/Qwen2.5-VL-3B-Instruct",
        "data": {
            "train": [{"path": "data/dataset_info.json", "name": "demo"}],
            "max_length": 2048,
            "images": {"max_pixels": 589824},
            "videos": {"max_frames": 128, "min_frames": 2, "max_pixels": 65536},
        },
        "tuning": {
            "vision": "freeze",
            "projector": "freeze",
            "language": "lora",
            "embeddings": "freeze",
            "head": "freeze",
            "lora": {"rank": 8, "alpha": 16},
        },
        "training": {
            "learning_rate": 5e-5,
            "batch_size": 8,
            "gradient_accumulation": 1,
            "warmup_ratio": 0.0,
            "scheduler": "linear",
        },
        "output": "runs/imported",
    }


def test_a_default_says_whose_it_is(folder: Path) -> None:
    result = imported(folder)
    assert row(result, "lora_rank").verdict == "differs"
    assert row(result, "lora_rank").note == "their default; ours is 16."
    assert row(result, "output_dir").note == "their default. Choose your own."
    lines = render_yaml(result).splitlines()
    assert "    rank: 8  # their default" in lines
    assert "  max_length: 2048  # their default" in lines
    assert "model: Qwen/Qwen2.5-VL-3B-Instruct" in lines


def test_what_is_given_is_carried_over(folder: Path) -> None:
    result = imported(
        folder,
        cutoff_len=4096,
        image_max_pixels=262144,
        learning_rate="2.0e-5",
        num_train_epochs=1,
        bf16=True,
        lora_rank=32,
        lora_dropout=0.1,
        save_steps=100,
        report_to="wandb",
        warmup_ratio=0.1,
        disable_gradient_checkpointing=True,
        output_dir="saves/one",
    )
    data, training = result.values["data"], result.values["training"]
    assert data["max_length"] == 4096
    assert data["images"]["max_pixels"] == 262144
    assert result.values["tuning"]["lora"] == {"rank": 32, "alpha": 64, "dropout": 0.1}
    assert training["learning_rate"] == 2e-5
    assert training["precision"] == "bf16"
    assert training["save_every"] == 100
    assert training["report_to"] == ["wandb"]
    assert training["gradient_checkpointing"] is False
    assert result.values["output"] == "saves/one"
    assert row(result, "cutoff_len").verdict == "differs"
    assert row(result, "learning_rate").verdict == "carried"


@pytest.mark.parametrize(
    ("given", "named", "verdict"),
    [
        ("none", [], "carried"),
        (["tensorboard", "wandb", "wandb"], ["tensorboard", "wandb"], "carried"),
        ("all", [], "differs"),
        (["wandb", "loggly"], ["wandb"], "differs"),
    ],
)
def test_trackers_that_the_trainer_knows_are_carried(
    folder: Path, given: object, named: list[str], verdict: str
) -> None:
    result = imported(folder, report_to=given)
    assert result.values["training"].get("report_to", []) == named
    assert row(result, "report_to").verdict == verdict


@pytest.mark.parametrize(
    ("keys", "towers"),
    [
        ({}, ("lora", "freeze", "freeze", "freeze", "freeze")),
        ({"freeze_vision_tower": False}, ("lora", "freeze", "lora", "freeze", "freeze")),
        ({"finetuning_type": "full"}, ("full", "freeze", "freeze", "full", "full")),
        (
            {
                "finetuning_type": "full",
                "freeze_language_model": True,
                "freeze_multi_modal_projector": False,
            },
            ("freeze", "full", "freeze", "freeze", "freeze"),
        ),
        (
            {"additional_target": "embed_tokens,lm_head"},
            ("lora", "freeze", "freeze", "full", "full"),
        ),
    ],
)
def test_towers(folder: Path, keys: dict[str, Any], towers: tuple[str, ...]) -> None:
    tuning = imported(folder, **keys).values["tuning"]
    names = ("language", "projector", "vision", "embeddings", "head")
    assert tuple(tuning[name] for name in names) == towers


def test_max_samples_is_a_bound_and_repeats_nothing(folder: Path) -> None:
    result = imported(folder, dataset="demo,large", max_samples=5)
    assert result.values["data"]["train"] == [
        {"path": "data/dataset_info.json", "name": "demo"},
        {"path": "data/dataset_info.json", "name": "large", "num_samples": 5},
    ]


def test_a_video_frame_s_limit_holds_for_all_frames_with_qwen3_vl(folder: Path) -> None:
    result = imported(folder, model_name_or_path="Qwen/Qwen3-VL-4B-Instruct", video_maxlen=10)
    assert result.values["data"]["videos"]["max_pixels"] == 655360


@pytest.mark.parametrize(("given", "result"), [(16, 16), ("4", 4), (0, 1)])
def test_processes_that_read_the_data(folder: Path, given: Any, result: int) -> None:
    made = imported(folder, preprocessing_num_workers=given)
    assert made.values["data"]["processes"] == result
    said = row(made, "preprocessing_num_workers")
    assert (said.target, said.verdict) == ("data.processes", "carried")
    assert "processes" not in imported(folder).values["data"]


def test_held_out_data_and_its_steps(folder: Path) -> None:
    result = imported(folder, eval_dataset="large", eval_strategy="steps", eval_steps=50)
    assert result.values["data"]["eval"] == [{"path": "data/dataset_info.json", "name": "large"}]
    assert result.values["training"]["eval_every"] == 50
    assert "eval_every" not in imported(folder, eval_steps=50).values["training"]


def test_warmup_steps_need_the_number_of_steps(folder: Path) -> None:
    known = imported(folder, warmup_steps=10, max_steps=200)
    assert known.values["training"]["warmup_ratio"] == 0.05
    assert row(imported(folder, warmup_steps=10), "warmup_steps").verdict == "none"


def test_fp16_and_an_unknown_scheduler_are_said(folder: Path) -> None:
    result = imported(folder, fp16=True, lr_scheduler_type="polynomial")
    assert result.values["training"]["precision"] == "auto"
    assert result.values["training"]["scheduler"] == "cosine"
    assert row(result, "fp16").verdict == row(result, "lr_scheduler_type").verdict == "differs"


def test_every_key_has_a_row(folder: Path) -> None:
    keys = {"group_by_length": True, "no_such_key": 3, "template": "qwen2_vl"}
    result = imported(folder, **keys)
    for key in keys:
        assert row(result, key).verdict == "none"
        assert row(result, key).note
    assert "does not know" in row(result, "no_such_key").note
    assert "no padding" in row(result, "group_by_length").note


def test_paths_are_relative_to_the_run_yaml_and_it_loads(folder: Path) -> None:
    (folder / "media").mkdir()
    (folder / "train.json").write_text(json.dumps(LEAST | {"media_dir": "media"}))
    result = import_llamafactory(folder / "train.json", folder=folder / "runs")
    source = result.values["data"]["train"][0]
    assert source["path"] == "../data/dataset_info.json"
    assert source["media_root"] == "../media"
    (folder / "runs").mkdir()
    (folder / "runs/run.yaml").write_text(render_yaml(result))
    loaded = load_config(folder / "runs/run.yaml")
    assert loaded.data.train[0].path == str(folder / "data/dataset_info.json")
    assert loaded.data.max_length == 2048


def test_data_beside_the_file_are_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    source = imported(folder).values["data"]["train"][0]
    assert source["path"] == "data/dataset_info.json"


def test_online_data_come_from_the_hub(folder: Path) -> None:
    result = imported(folder, dataset_dir="ONLINE", dataset="someone/boxes")
    assert result.values["data"]["train"] == [{"hub": "someone/boxes"}]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"stage": "dpo"}, ("stage", "dpo", "sft")),
        ({"finetuning_type": "oft"}, ("finetuning_type", "oft", "lora, full, freeze")),
        ({"dataset": None}, ("dataset", "no data set")),
        ({"dataset": "dmo"}, ("dataset", "'dmo'", "Did you mean demo?")),
        ({"model_name_or_path": None}, ("model_name_or_path", "missing")),
        ({"model_name_or_path": ["a", "b"]}, ("model_name_or_path", "one word or path")),
        ({"cutoff_len": "many"}, ("cutoff_len", "'many'", "a number is expected")),
        ({"cutoff_len": True}, ("cutoff_len", "True", "a number is expected")),
        ({"preprocessing_num_workers": -1}, ("preprocessing_num_workers", "-1 is given")),
        ({"lora_rank": 0}, ("lora_rank", "tuning.lora.rank", "0 is given")),
        ({"freeze_vision_tower": "perhaps"}, ("freeze_vision_tower", "true or false")),
        ({"learning_rate": float("inf")}, ("learning_rate", "finite")),
        ({"freeze_language_model": True}, ("trains nothing",)),
    ],
)
def test_what_cannot_be_imported_is_refused(
    folder: Path, keys: dict[str, Any], words: tuple[str, ...]
) -> None:
    message = refusal(folder, **keys)
    assert str(folder / "train.yaml") in message
    for word in words:
        assert word in message


def test_a_folder_of_an_unknown_model_is_refused(folder: Path) -> None:
    (folder / "llama").mkdir()
    (folder / "llama/config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ModelError, match="llama"):
        imported(folder, model_name_or_path="llama")
    (folder / "llama/config.json").unlink()
    assert "config.json" in refusal(folder, model_name_or_path="llama")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "model: [unclosed"),
        ("b.yaml", "- a\n- b\n"),
        ("c.json", "{"),
        ("d.json", "[1, 2]"),
        ("e.yaml", ""),
        ("f.yaml", None),
        ("g.json", None),
    ],
)
def test_a_broken_file_is_named(folder: Path, name: str, text: str | None) -> None:
    if text is not None:
        (folder / name).write_text(text)
    with pytest.raises(ConfigError, match=name):
        import_llamafactory(folder / name, folder=folder)
