"""The audit fails for a package that is vulnerable, and says what it could not ask."""

from __future__ import annotations

import importlib.util
import subprocess
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def audit(root: Path) -> ModuleType:
    loader = SourceFileLoader("audit", str(root / ".ci" / "audit"))
    spec = importlib.util.spec_from_loader("audit", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


SOUND: dict[str, Any] = {"name": "numpy", "version": "2.4.6", "vulns": []}
SILENT: dict[str, Any] = {"name": "torch", "skip_reason": "not found"}
BAD: dict[str, Any] = {
    "name": "pillow",
    "version": "9.0.0",
    "vulns": [{"id": "PYSEC-2023-175", "fix_versions": ["10.0.1"]}],
}


@pytest.mark.parametrize(
    ("found", "code", "said"),
    [
        ([SOUND, BAD], 1, "audit: pillow 9.0.0: PYSEC-2023-175, mended in 10.0.1"),
        ([SOUND, BAD, SILENT], 1, "audit: 1 of 2 packages have known vulnerabilities."),
        ([SOUND], 0, "audit: no known vulnerability in 1 packages."),
        ([SOUND, SILENT], 0, "audit: nothing is known of torch."),
        ([SILENT], 0, "audit: not made: the index has no advisories for 1 packages."),
    ],
)
def test_the_verdict(
    audit: ModuleType, found: Any, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit.verdict(found) == code
    assert said in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("answer", ["", "{}", "no json"])
def test_no_answer_is_told(
    audit: ModuleType, answer: str, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    done = subprocess.CompletedProcess([], 1, answer, "connection refused\n")
    monkeypatch.setattr(audit.subprocess, "run", lambda *_, **__: done)
    assert audit.main() == 0
    assert capsys.readouterr().out == "audit: not made: connection refused\n"


def test_no_answer_in_time_is_told(audit: ModuleType, monkeypatch, capsys) -> None:
    def late(*_: Any, **__: Any) -> None:
        raise subprocess.TimeoutExpired("pip-audit", 1)

    monkeypatch.setattr(audit.subprocess, "run", late)
    assert audit.main() == 0
    assert "not made: no answer in" in capsys.readouterr().out


def test_the_check_of_the_repository_audits(root: Path) -> None:
    check = (root / "Makefile").read_text("utf-8").partition("\ncheck:")[2].partition("\n\n")[0]
    assert "$(BIN)/python .ci/audit" in check
