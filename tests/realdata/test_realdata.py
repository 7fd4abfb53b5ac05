"""Photographs, charts and videos to a certificate, in every family, by the real command."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(started: Any) -> Run:
    """The command, in a folder."""

    def ended(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
        process = started("-m", "sightline", *arguments, cwd=folder)
        out, err = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return ended


@pytest.mark.parametrize(
    ("name", "family"),
    [*(("llamafactory_demo", family) for family in FAMILY_KEYS), ("qwen_demo", "qwen2_5_vl")],
)
def test_real_data_runs_to_a_certificate(
    name: str, family: str, shared: Path, tmp_path: Path, run: Run
) -> None:
    done = run(
        "train",
        HERE / f"{name}.yaml",
        "--set",
        f"model=tiny:{family}",
        "--set",
        "training.epochs=3",
        "--set",
        "verify.samples=3",
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    output = tmp_path / "runs" / name
    certificate = json.loads((output / "certificate.json").read_text(encoding="utf-8"))
    assert certificate["verdict"] == "holds"
    assert certificate["family"] == family
    ledger = (output / "ledger.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(ledger) == {"llamafactory_demo": 9, "qwen_demo": 3}[name]
    assert "<html" in (output / "report.html").read_text(encoding="utf-8")


def test_a_finished_run_verifies_again(shared: Path, tmp_path: Path, run: Run) -> None:
    """`sightline verify` alone, on what `sightline train` left, with nothing else in memory."""
    trained = run(
        "train",
        HERE / "qwen_demo.yaml",
        "--set",
        "training.epochs=1",
        "--set",
        "verify.enabled=false",
        folder=tmp_path,
    )
    assert trained.returncode == 0, trained.stderr
    verified = run("verify", "runs/qwen_demo", folder=tmp_path)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "The exported model is the model that was trained." in verified.stdout


def test_real_data_can_be_rehearsed(shared: Path, tmp_path: Path, run: Run) -> None:
    """Photographs and a video, several turns: learned, exported and answered word by word."""
    done = run(
        "rehearse",
        HERE / "llamafactory_demo.yaml",
        "--samples",
        "3",
        "--set",
        "model=tiny:qwen2_5_vl",
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "runs" / "llamafactory_demo-rehearsal"
    record = json.loads((folder / "rehearsal.json").read_text(encoding="utf-8"))
    assert record["verdict"] == "holds"
    kinds = {kind for sample in record["samples"] for kind in sample["kinds"]}
    assert kinds == {"image", "several images", "several turns", "video"}
    assert not (tmp_path / "runs" / "llamafactory_demo").exists()
    # The tables; what follows them is not wrapped, so that paths can be copied.
    tables = done.stdout[: done.stdout.index("verdict 3 samples")]
    assert max(len(line) for line in tables.splitlines()) <= 80
