"""What an import brings with it, in a fresh interpreter: layers as they are at run time."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "transformers", "peft", "accelerate")

_REPORT = "import json, sys; print('LOADED', json.dumps([m for m in {0!r} if m in sys.modules]))"


def _loaded(statements: str, watched: tuple[str, ...]) -> list[str]:
    """Which of the watched packages are loaded after some statements."""
    program = f"{statements}\n{_REPORT.format(watched)}"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
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
    statements = (
        "import sys\n"
        f"sys.argv = ['sightline', *{arguments!r}]\n"
        "from sightline.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code"
    )
    assert _loaded(statements, (*HEAVY, "numpy", "matplotlib")) == []


@pytest.mark.parametrize("room", ["errors", "config", "families", "records", "report"])
def test_rooms_without_torch(room: str) -> None:
    assert _loaded(f"import sightline.{room}", HEAVY) == []


@pytest.mark.parametrize("room", ["positions", "geometry"])
def test_rooms_without_a_model_library(room: str) -> None:
    assert _loaded(f"import sightline.{room}", ("transformers", "peft", "accelerate")) == []
