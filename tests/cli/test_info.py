"""What a bug report has to say, without what must not be in one; and a shell that completes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sightline

SECRETS = {
    "HF_TOKEN": "hf_" + "aB3" * 12,
    "WANDB_API_KEY": "0123456789abcdef" * 2,
    "SIGHTLINE_PASSWORD": "open sesame",
    "TORCH_AUTH": "bearer 1",
}


def test_versions_machine_and_settings(command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCCL_P2P_DISABLE", "1")
    monkeypatch.setenv("HOME_OF_MINE", "not shown")
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    done = command("info")
    assert done.code == 0
    lines = done.out.rstrip().splitlines()
    assert (lines[0], lines[-1]) == ("```text", "```")
    assert max(map(len, lines)) <= 80
    assert lines[1].startswith(
        f"sightline {sightline.__version__}, Python {sys.version.split()[0]}"
    )
    assert "torch " in done.out
    assert "NCCL_P2P_DISABLE=1" in done.out
    assert "TOKENIZERS_PARALLELISM=false" in done.out
    assert "HOME_OF_MINE" not in done.out
    for name, value in SECRETS.items():
        assert name not in done.out
        assert value not in done.out
    record = json.loads(command("info", "--json").out)
    assert record["versions"]["transformers"] in done.out
    assert record["num_cores"] >= 1


def test_a_run_is_told_by_what_is_no_default(
    command, tmp_path: Path, tiny_folder: Any, shapes_folder: Path, monkeypatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    run = tmp_path / "run"
    (tmp_path / "run.yaml").write_text(
        f"model: {tiny_folder('qwen2_vl')}\n"
        f"data: {{train: {shapes_folder / 'train.jsonl'}}}\n"
        "training: {max_steps: 2, gradient_accumulation: 1, learning_rate: 2.0e-3}\n"
        "verify: {enabled: false}\n"
        f"output: {run}\n"
    )
    assert command("train", tmp_path / "run.yaml").code == 0
    done = command("info", run)
    assert done.code == 0
    assert "run run: state trained, family Qwen2-VL, device cpu, verdict none" in done.out
    assert "2 steps logged" in done.out.replace("\n  ", " ")
    assert "  learning_rate: 0.002\n" in done.out
    assert "scheduler" not in done.out
    assert str(tmp_path) not in done.out
    assert "output: ~/run" in done.out


def test_no_run_is_said_in_a_sentence(command, tmp_path: Path) -> None:
    done = command("info", tmp_path)
    assert done.code == 2
    assert "this is not a run directory" in done.err
    assert done.out == ""


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("sightline ev", ["evaluate"]),
        ("sightline train run.yaml --set training.learning_r", ["training.learning_rate="]),
        ("sightline train run.yaml --set data.images.max_f", ["data.images.max_file_pixels="]),
    ],
)
def test_a_shell_completes_commands_and_keys(words: str, found: list[str]) -> None:
    done = subprocess.run(
        [str(Path(sys.exec_prefix) / "bin" / "sightline")],
        env={
            **os.environ,
            "_SIGHTLINE_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.split() == found
