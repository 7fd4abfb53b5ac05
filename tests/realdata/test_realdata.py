"""Photographs, charts and videos to a certificate, in every family, by the real command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


def _run(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sightline", *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("family", FAMILY_KEYS)
@pytest.mark.parametrize("name", ["llamafactory_demo", "qwen_demo"])
def test_real_data_runs_to_a_certificate(
    name: str, family: str, shared: Path, tmp_path: Path
) -> None:
    done = _run(
        "train",
        HERE / f"{name}.yaml",
        "--set",
        f"model=tiny:{family}",
        "--set",
        "training.epochs=3",
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "runs" / name
    certificate = json.loads((run / "certificate.json").read_text(encoding="utf-8"))
    assert certificate["verdict"] == "holds"
    assert certificate["family"] == family
    ledger = (run / "ledger.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(ledger) == {"llamafactory_demo": 9, "qwen_demo": 3}[name]
    assert "<html" in (run / "report.html").read_text(encoding="utf-8")


def test_a_finished_run_verifies_again(shared: Path, tmp_path: Path) -> None:
    """`sightline verify` alone, on what `sightline train` left, with nothing else in memory."""
    trained = _run(
        "train",
        HERE / "qwen_demo.yaml",
        "--set",
        "training.epochs=1",
        "--set",
        "verify.enabled=false",
        folder=tmp_path,
    )
    assert trained.returncode == 0, trained.stderr
    verified = _run("verify", "runs/qwen_demo", folder=tmp_path)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "The exported model is the model that was trained." in verified.stdout
