"""An ms-swift training as a run.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sightline.config import load_config
from sightline.errors import ConfigError, SightlineError
from sightline.interop.imported import Carried, Imported, render_yaml
from sightline.interop.swift import import_swift

LEAST = "swift sft --model Qwen/Qwen2.5-VL-7B-Instruct --dataset data/own.jsonl"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/own.jsonl").write_text("{}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def script(folder: Path, text: str) -> Imported:
    config = folder / "train.sh"
    config.write_text(text)
    return import_swift(config, folder=folder)


def row(result: Imported, key: str) -> Carried:
    return next(row for row in result.rows if row.key == key)


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(SightlineError) as caught:
        script(folder, text)
    return str(caught.value)


def test_their_defaults_that_are_not_ours_are_written(folder: Path) -> None:
    assert script(folder, LEAST).values == {
        "model": "Qwen/Qwen2.5-VL-7B-Instruct",
        "data": {
            "train": [{"path": "data/own.jsonl", "format": "swift", "media_root": "."}],
            "fit": ["drop"],
            "videos": {"max_pixels": 602112, "min_pixels": 100352},
        },
        "tuning": {"projector": "freeze", "lora": {"rank": 8, "dropout": 0.05}},
        "training": {"gradient_accumulation": 16, "warmup_ratio": 0.0, "weight_decay": 0.1},
        "output": "runs/imported",
    }


def test_a_script_with_continuations_comments_and_an_environment(folder: Path) -> None:
    result = script(
        folder,
        """\
        # swift sft --model not/this --dataset one
        export FPS_MAX_FRAMES=16
        RATE=2e-5
        nvidia-smi; MAX_PIXELS=1003520 \\
        NPROC_PER_NODE=2 \\
        swift sft \\
            --model 'Qwen/Qwen2.5-VL-7B-Instruct' \\
            --dataset data/own.jsonl#500 \\
            --learning_rate ${RATE} --vit_lr=1e-6 --aligner_lr 1e-5 \\
            --freeze_vit false --freeze_aligner false \\
            --max_length 4096 --truncation_strategy right \\
            --torch_dtype bfloat16 \\
            --output_dir "out $RATE" > log.txt 2>&1 &
        echo done
        """,
    )
    data, training = result.values["data"], result.values["training"]
    assert data["train"][0]["num_samples"] == 500
    assert data["images"]["max_pixels"] == 1003520
    assert data["videos"]["max_frames"] == 16
    assert data["max_length"] == 4096
    assert "fit" not in data
    assert result.values["tuning"]["vision"] == {"mode": "lora", "learning_rate": 1e-6}
    assert result.values["tuning"]["projector"] == {"mode": "lora", "learning_rate": 1e-5}
    assert training["learning_rate"] == 2e-5
    assert training["precision"] == "bf16"
    assert result.values["output"] == "out 2e-5"
    assert row(result, "truncation_strategy").verdict == "differs"
    assert "--processes 2" in row(result, "NPROC_PER_NODE").note
    # Eight passes in each of two processes: theirs makes every step of 16 samples.
    assert "gradient_accumulation" not in training


def test_nothing_of_a_script_is_executed(folder: Path) -> None:
    result = script(folder, f"X=$(touch {folder}/made)\n`touch {folder}/made`\n{LEAST} --seed 7\n")
    assert result.values["training"]["seed"] == 7
    assert not (folder / "made").exists()
    message = refusal(folder, f"X=$(cat rate)\n{LEAST} --learning_rate $X")
    assert "learning_rate" in message
    assert "a number is expected" in message


def test_a_yaml_file_with_an_environment(folder: Path) -> None:
    keys: dict[str, Any] = {
        "ENV": {"MAX_PIXELS": 501760},
        "model": "Qwen/Qwen2.5-VL-7B-Instruct",
        "dataset": ["data/own.jsonl"],
        "train_type": "full",
        "freeze_vit": True,
    }
    (folder / "train.yaml").write_text(yaml.safe_dump(keys))
    result = import_swift(folder / "train.yaml", folder=folder)
    assert result.values["data"]["images"] == {"max_pixels": 501760}
    tuning = {"language": "full", "projector": "freeze", "vision": "freeze"}
    assert result.values["tuning"] == tuning | {"embeddings": "full", "head": "full"}
    assert result.values["training"]["learning_rate"] == 1e-5


def test_data_sets(folder: Path) -> None:
    result = script(
        folder,
        "swift sft --model Qwen/Qwen2.5-VL-7B-Instruct --val_dataset data/own.jsonl "
        "--dataset 'hf::some/boxes:a/b#9' data/own.jsonl ms::AI/other AI/plain",
    )
    assert result.values["data"]["train"] == [
        {"hub": "some/boxes", "subset": "a", "num_samples": 9},
        {"hub": "some/boxes", "subset": "b", "num_samples": 9},
        {"path": "data/own.jsonl", "format": "swift", "media_root": "."},
    ]
    assert len(result.values["data"]["eval"]) == 1
    left_out = [row.value for row in result.rows if row.verdict == "none" and row.key == "dataset"]
    assert left_out == ["ms::AI/other", "AI/plain"]


def test_use_hf_makes_a_plain_name_a_hub_id(folder: Path) -> None:
    command = "swift sft --model Qwen/Qwen2.5-VL-7B-Instruct --dataset some/boxes --use_hf true"
    assert script(folder, command).values["data"]["train"] == [{"hub": "some/boxes"}]


def test_media_root_follows_their_variable(folder: Path) -> None:
    source = script(folder, f"ROOT_IMAGE_DIR=/pictures {LEAST}").values["data"]["train"][0]
    assert source["media_root"].endswith("/pictures")
    absolute = LEAST.replace("data/own", f"{folder}/data/own")
    result = script(folder, absolute)
    assert "media_root" not in result.values["data"]["train"][0]
    assert row(result, "dataset").verdict == "differs"


def test_tokens_of_qwen3_vl_become_pixels(folder: Path) -> None:
    command = LEAST.replace("Qwen2.5-VL-7B", "Qwen3-VL-4B")
    result = script(folder, f"IMAGE_MAX_TOKEN_NUM=1024 VIDEO_MAX_TOKEN_NUM=128 {command}")
    assert result.values["data"]["images"]["max_pixels"] == 1048576
    assert "videos" not in result.values["data"]
    assert row(result, "VIDEO_MAX_TOKEN_NUM").verdict == "none"
    bounded = f"FPS_MAX_FRAMES=4 VIDEO_MAX_TOKEN_NUM=128 {command}"
    assert script(folder, bounded).values["data"]["videos"]["max_pixels"] == 128 * 1024 * 4


def test_processes_that_read_the_data(folder: Path) -> None:
    result = script(folder, f"{LEAST} --dataset_num_proc 8")
    assert result.values["data"]["processes"] == 8
    assert row(result, "dataset_num_proc").verdict == "carried"


def test_every_key_has_a_row(folder: Path) -> None:
    result = script(
        folder,
        f"{LEAST} --packing_num_proc 2 --novel 1 --target_modules q --lora_bias all",
    )
    assert row(result, "packing_num_proc").verdict == "none"
    assert "does not know" in row(result, "novel").note
    assert row(result, "target_modules").result == ["q"]
    assert row(result, "lora_bias").verdict == "none"
    assert row(result, "adam_beta2").note.startswith("their default")


def test_the_run_yaml_loads(folder: Path) -> None:
    result = script(folder, LEAST)
    (folder / "run.yaml").write_text(render_yaml(result))
    config = load_config(folder / "run.yaml")
    assert config.data.fit == ["drop"]
    assert config.data.train[0].path == str(folder / "data/own.jsonl")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("echo hello\n", ("0 commands with swift sft",)),
        (f"{LEAST}\n{LEAST}\n", ("2 commands with swift sft",)),
        (f"{LEAST} --seed 'one", ("the quote '", "not closed")),
        (f"{LEAST} --seed 1 --seed 2", ("--seed is given twice",)),
        ("swift sft stray --model a", ("'stray'",)),
        ("swift sft --dataset data/own.jsonl", ("model", "missing")),
        ("swift sft --model a/b", ("dataset", "no data set")),
        ("swift sft --model a/b --dataset ms::c/d", ("dataset", "ms::ID")),
        (f"{LEAST} --tuner_type adalora", ("tuner_type", "adalora", "lora, full and lora_llm")),
        (f"{LEAST} --max_length none", ("max_length", "'none'")),
        (f"{LEAST}#few", ("dataset", "'few'")),
        ("swift sft --model $M --dataset data/own.jsonl", ("model", "'$M'", "not set")),
        (f"{LEAST} --lora_dropout 1.5", ("lora_dropout", "1.5")),
    ],
)
def test_what_cannot_be_imported_is_refused(
    folder: Path, text: str, words: tuple[str, ...]
) -> None:
    message = refusal(folder, text)
    assert str(folder / "train.sh") in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("name", ["none.sh", "none.yaml", "none.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        import_swift(folder / name, folder=folder)
