"""A script of Qwen's own fine-tuning code as a run.yaml."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from sightline.config import load_config
from sightline.errors import ConfigError, SightlineError
from sightline.interop.data_dict import read_datasets
from sightline.interop.imported import Carried, Imported, render_yaml
from sightline.interop.official import import_official
from sightline.report.imported import imported_report, imported_summary

LEAST = "python train_qwen.py --dataset_use a"
SCRIPT = """\
#!/bin/bash
MASTER_PORT=${MASTER_PORT:-$(shuf -i 20001-29999 -n 1)}
NPROC_PER_NODE=4
llm=Qwen/Qwen2.5-VL-3B-Instruct  # a comment
lr=2e-7
datasets=a,b%50
args="
    --deepspeed ./zero3.json \\
    --model_name_or_path "${llm}" \\
    --dataset_use ${datasets} \\
    --tune_mm_vision False \\
    --tune_mm_mlp True \\
    --tune_mm_llm True \\
    --bf16 \\
    --max_pixels 50176 \\
    --learning_rate ${lr} \\
    --mm_projector_lr 1e-5 \\
    --model_max_length 8192 \\
    --output_dir ./output"
torchrun --nproc_per_node=${NPROC_PER_NODE} \\
         --master_port=${MASTER_PORT} \\
         qwenvl/train/train_qwen.py ${args} 2>&1 | tee log.txt
"""
DATASETS = """\
import re, no_such_module
A = {"annotation_path": "notes/a.json", "data_path": f""}
B = {"annotation_path": "/notes/b.jsonl", "data_path": "/pictures"}
data_dict = {"a": A, "b": B}
raise SystemExit("this file is never imported")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "qwenvl/data").mkdir(parents=True)
    (tmp_path / "qwenvl/data/__init__.py").write_text(DATASETS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def script(folder: Path, text: str, datasets: Path | None = None) -> Imported:
    config = folder / "sft.sh"
    config.write_text(text)
    return import_official(config, folder=folder, datasets=datasets)


def row(result: Imported, key: str) -> Carried:
    return next(row for row in result.rows if row.key == key)


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(SightlineError) as caught:
        script(folder, text)
    return str(caught.value)


def test_a_script_with_variables_in_one_long_text(folder: Path) -> None:
    result = script(folder, SCRIPT)
    data, training = result.values["data"], result.values["training"]
    assert result.values["model"] == "Qwen/Qwen2.5-VL-3B-Instruct"
    assert data["train"][0] == {"path": "notes/a.json", "format": "official", "media_root": "."}
    assert data["train"][1]["path"].endswith("/notes/b.jsonl")
    assert data["train"][1]["weight"] == 0.5
    assert data["max_length"] == 8192
    assert data["images"]["max_pixels"] == 50176
    assert training["learning_rate"] == 2e-7
    assert training["precision"] == "bf16"
    assert result.values["tuning"] == {
        "language": "full",
        "projector": {"mode": "full", "learning_rate": 1e-5},
        "vision": "freeze",
        "embeddings": "full",
        "head": "full",
    }
    assert result.values["output"] == "./output"
    assert row(result, "nproc_per_node").value == "4"
    assert "--processes 4" in row(result, "nproc_per_node").note
    assert training["parallel"] == "zero3"
    assert row(result, "deepspeed").verdict == "carried"


def test_their_defaults_that_are_not_ours_are_written(folder: Path) -> None:
    result = script(folder, f"{LEAST} --lora_enable True")
    assert result.values["data"]["max_length"] == 512
    assert result.values["data"]["images"] == {"max_pixels": 451584, "min_pixels": 12544}
    videos = {"max_frames": 8, "max_pixels": 802816, "min_pixels": 200704}
    assert result.values["data"]["videos"] == videos
    assert result.values["tuning"] == {
        "language": "lora",
        "projector": "freeze",
        "vision": "freeze",
        "lora": {
            "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"],
            "rank": 64,
            "alpha": 128,
            "dropout": 0.05,
        },
    }
    assert result.values["training"] == {
        "learning_rate": 5e-5,
        "batch_size": 8,
        "gradient_accumulation": 1,
        "warmup_ratio": 0.0,
        "gradient_checkpointing": False,
        "scheduler": "linear",
    }
    assert "  max_length: 512  # their default" in render_yaml(result).splitlines()


def test_without_a_limit_nothing_is_cut(folder: Path) -> None:
    result = script(folder, f"{LEAST} --tune_mm_llm True --data_flatten True")
    assert "max_length" not in result.values["data"]
    assert row(result, "model_max_length").verdict == "differs"


def test_defaults_of_variables_and_the_script_s_own_arguments(folder: Path) -> None:
    result = script(
        folder,
        'LR=${LR:-"1e-6"}\nMODEL=${MODEL:-Qwen/Qwen2-VL-2B-Instruct}\n'
        f"{LEAST} --tune_mm_llm True --learning_rate $LR --model_name_or_path=${{MODEL}} "
        '--seed 5 "$@" >> log.txt',
    )
    assert result.values["training"]["learning_rate"] == 1e-6
    assert result.values["training"]["seed"] == 5
    assert result.values["model"] == "Qwen/Qwen2-VL-2B-Instruct"


def test_values_with_a_meaning_of_their_own(folder: Path) -> None:
    flags = "--tune_mm_llm True --max_grad_norm 0 --logging_steps 0.1"
    result = script(folder, f"{LEAST} {flags}")
    assert result.values["training"]["max_grad_norm"] == 1e9
    assert row(result, "logging_steps").verdict == "none"


def test_a_control_character_does_not_break_the_run_yaml(folder: Path) -> None:
    result = script(folder, f"{LEAST} --tune_mm_llm True --run_name 'a\x1b[31m' --x\x07 1")
    (folder / "run.yaml").write_text(render_yaml(result))
    assert load_config(folder / "run.yaml").output == "runs/imported"


def test_the_data_file_may_be_named(folder: Path) -> None:
    other = folder / "other.py"
    other.write_text('data_dict = {"a": {"annotation_path": "x.json", "data_path": "/p"}}')
    result = script(folder, f"{LEAST} --tune_mm_llm True", other)
    assert result.values["data"]["train"][0]["path"] == "x.json"


def test_the_run_yaml_loads_from_another_folder(folder: Path) -> None:
    (folder / "sft.sh").write_text(SCRIPT)
    result = import_official(folder / "sft.sh", folder=folder / "runs")
    (folder / "runs").mkdir()
    (folder / "runs/run.yaml").write_text(render_yaml(result))
    config = load_config(folder / "runs/run.yaml")
    assert config.data.train[0].path == str(folder / "notes/a.json")
    assert config.data.train[0].media_root == str(folder)
    assert config.data.train[1].weight == 0.5


@pytest.mark.parametrize(
    "content",
    [
        "data_dict = make()",
        "other = 1",
        "data_dict = {}",
        "data_dict = {'a': 3}",
        "data_dict = {'a': {'annotation_path': f'{root}/x'}}",
        "data_dict = {",
        "data_dict = {{}: 1}",
        None,
    ],
)
def test_a_data_file_without_literals_is_refused(folder: Path, content: str | None) -> None:
    file = folder / "some.py"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=r"some\.py"):
        read_datasets(file)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("echo hello\n", ("0 commands with train_qwen.py",)),
        ("python train_qwen.py --tune_mm_llm True", ("dataset_use", "no data set")),
        ("python train_qwen.py --dataset_use c", ("dataset_use", "'c'", "a, b")),
        (f"{LEAST}%half --tune_mm_llm True", ("dataset_use", "'half'")),
        (f"{LEAST} --tune_mm_llm maybe", ("tune_mm_llm", "'maybe'", "true or false")),
        (f"{LEAST} --tune_mm_llm True --max_pixels $N", ("max_pixels", "'$N'")),
        (LEAST, ("trains nothing",)),
        (f"{LEAST} --tune_mm_llm True --model_name_or_path {'x' * 5000}", ("looked for",)),
        (f"{LEAST} --tune_mm_llm True --min_pixels 900000", ("min_pixels", "900000")),
    ],
)
def test_what_cannot_be_imported_is_refused(
    folder: Path, text: str, words: tuple[str, ...]
) -> None:
    message = refusal(folder, text)
    assert str(folder / "sft.sh") in message
    for word in words:
        assert word in message


def test_a_missing_data_file_and_script_are_named(folder: Path) -> None:
    (folder / "qwenvl/data/__init__.py").unlink()
    assert "--datasets" in refusal(folder, LEAST)
    with pytest.raises(ConfigError, match=r"none\.sh"):
        import_official(folder / "none.sh", folder=folder)


def test_the_report_fits_80_columns_and_holds_every_row(folder: Path) -> None:
    result = script(folder, SCRIPT)
    written = io.StringIO()
    Console(file=written, width=80).print(imported_report(result))
    text = written.getvalue()
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "…" not in text
    for each in result.rows:
        assert each.key in text
    counts = [result.count(verdict) for verdict in ("carried", "differs", "none")]
    assert sum(counts) == len(result.rows)
    assert imported_summary(result).startswith(f"official: {counts[0]} carried over, {counts[1]}")
