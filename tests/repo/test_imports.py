"""What an import brings with it, in a fresh interpreter: layers as they are at run time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "torchvision", "transformers", "peft", "accelerate")

_REPORT = "import json, sys; print('LOADED', json.dumps([m for m in {0!r} if m in sys.modules]))"


def _loaded(statements: str, watched: tuple[str, ...], cwd: Path | None = None) -> list[str]:
    """Which of the watched packages are loaded after some statements."""
    program = f"{statements}\n{_REPORT.format(watched)}"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=cwd
    )
    assert result.returncode == 0, result.stderr
    line = next(line for line in result.stdout.splitlines() if line.startswith("LOADED "))
    return json.loads(line.removeprefix("LOADED "))


def test_a_loaded_package_is_seen() -> None:
    assert _loaded("import json.decoder", ("json", "torch")) == ["json"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["train", "--help"],
        ["verify", "--help"],
        ["config", "--help"],
        ["watch", "--help"],
        ["compare", "--help"],
    ],
    ids=" ".join,
)
def test_help_is_instant(arguments: list[str]) -> None:
    assert _loaded(_command(arguments, 0), (*HEAVY, "numpy", "matplotlib")) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "run"],
        ["evaluate", "run", "--metrics", "beauty"],
        ["evaluate", "run/predictions.jsonl", "--before"],
        ["predict", "run"],
        ["predict", "run", "--data", "a.jsonl", "--turns", "first"],
        ["predict", "run", "--data", "a.jsonl", "--set", "data.fti=[drop]"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_asked_is_refused_at_once(arguments: list[str], run: Path) -> None:
    assert _loaded(_command(arguments, 2), HEAVY, cwd=run.parent) == []


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """What is read of a run that held nothing out."""
    folder = tmp_path / "run"
    folder.mkdir()
    config = "model: tiny:qwen2_vl\ndata:\n  train: train.jsonl\noutput: run\n"
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    (folder / "run.json").write_text('{"state": "exported"}', encoding="utf-8")
    return folder


def _command(arguments: list[str], code: int) -> str:
    """Statements that run a command, and that its exit code is this one."""
    return (
        "import sys\n"
        f"sys.argv = ['sightline', *{arguments!r}]\n"
        "from sightline.cli.main import main\n"
        f"try:\n    main()\nexcept SystemExit as end:\n    assert (end.code or 0) == {code}, end"
    )


@pytest.mark.parametrize("room", ["errors", "config", "families", "records", "report"])
def test_rooms_without_torch(room: str) -> None:
    assert _loaded(f"import sightline.{room}", HEAVY) == []


@pytest.mark.parametrize("room", ["positions", "geometry"])
def test_rooms_without_a_model_library(room: str) -> None:
    assert _loaded(f"import sightline.{room}", ("transformers", "peft", "accelerate")) == []
