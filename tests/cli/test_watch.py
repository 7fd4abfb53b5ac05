"""`sightline watch`: where it listens, how it ends, and what it refuses."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SECONDS = 60


@pytest.fixture
def run(tmp_path: Path, run_maker: ModuleType) -> Path:
    """A run at step 50 of its training."""
    run_maker.make_run(tmp_path / "done")
    run = run_maker.make_run(tmp_path / "run")
    (run / "certificate.json").unlink()
    run_maker.rewrite(run / "run.json", state="training", finished=None)
    return run


def _served(started: subprocess.Popen[str]) -> str:
    """The address that the command prints."""
    assert started.stdout is not None
    for line in started.stdout:
        if found := re.search(r"page +(http://127\.0\.0\.1:[0-9]+/)", line):
            return found[1]
    raise AssertionError(started.communicate(timeout=SECONDS)[1])


def test_ctrl_c_ends_the_watching_and_not_more(run: Path, started: Any) -> None:
    process = started("-m", "sightline", "watch", run)
    try:
        address = _served(process)
        with urllib.request.urlopen(f"{address}state", timeout=SECONDS) as answer:
            assert json.load(answer)["progress"]["step"] == 50
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert (process.returncode, err) == (0, "")
    assert "No longer watched." in out


def test_a_port_that_is_taken_is_one_message(run: Path, command: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        outcome = command("watch", run, "--port", port)
    assert outcome.code == 2
    assert outcome.err.startswith(f"sightline: --port {port}: another program listens there")
    assert "Leave --port out" in outcome.err


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http"])
def test_a_port_that_cannot_be_is_refused(run: Path, command: Any, port: str) -> None:
    assert command("watch", run, "--port", port).code == 2


def test_what_can_never_become_a_run_is_refused(run: Path, command: Any) -> None:
    outcome = command("watch", run / "config.yaml")
    assert outcome.code == 2
    assert "this is a file" in outcome.err
    outcome = command("watch", run.parent)
    assert outcome.code == 2
    assert "this is a folder of 2 runs: done, run" in outcome.err
    assert f"sightline watch {run.parent / 'done'}" in outcome.err
    outcome = command("watch", run.parent / "pictures")
    assert outcome.code == 2
    assert "not a run of Sightline" in outcome.err
