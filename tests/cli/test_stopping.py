"""Signals, memory that ends and workers that die, in the real command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

OUT_OF_MEMORY = """
import sys, torch
from sightline.training import trainer
real, calls = trainer.model_loss, []

def model_loss(*args, **kwargs):
    calls.append(1)
    if len(calls) == 3:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB.")
    return real(*args, **kwargs)

trainer.model_loss = model_loss
from sightline.cli.main import main
main()
"""

WORKER_KILLED = """
import multiprocessing, time
from sightline.training import trainer
real, calls = trainer.model_loss, []

def model_loss(*args, **kwargs):
    calls.append(1)
    if len(calls) == 3:
        for child in multiprocessing.active_children():
            child.kill()
        time.sleep(20)
    return real(*args, **kwargs)

trainer.model_loss = model_loss
from sightline.cli.main import main
main()
"""

NAMES_ITSELF = """
import os, pathlib, sys
pathlib.Path(sys.argv[2]).with_name("pid").write_text(str(os.getpid()))
from sightline.cli.main import main
main()
"""


@pytest.fixture
def config(workbench: Any) -> Path:
    """A configuration that trains for a long time, and saves at no step by itself."""
    return workbench(
        [workbench.row() for _ in range(8)],
        training__max_steps=4000,
        training__save_every=100_000,
        training__batch_size=2,
        verify__enabled=False,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out, err


def wait_until(process: subprocess.Popen[str], holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 200
    while not holds():
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            raise AssertionError(process.communicate())
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def has_torch(pid: int) -> bool:
    """Whether the process has come as far as to load torch."""
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text()


def has_begun(pid: int, options: list[object]) -> bool:
    """Whether the processes of the run have come so far."""
    if not options:
        return has_torch(pid)
    ranks = children(pid)
    return len(ranks) == 2 and all(map(has_torch, ranks))


def steps(run: Path) -> list[int]:
    file = run / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return [entry["step"] for entry in map(json.loads, lines) if "loss" in entry]


def state(run: Path) -> dict[str, Any]:
    return json.loads((run / "run.json").read_text())


@pytest.mark.parametrize(
    ("signum", "name", "options"),
    [
        (signal.SIGINT, "Ctrl-C", []),
        (signal.SIGTERM, "SIGTERM", ["--processes", 2, "--max-restarts", 2]),
    ],
)
def test_a_run_that_is_stopped_says_how_to_go_on_and_does(
    config: Path, signum: int, name: str, options: list[object], started: Any, command: Any
) -> None:
    run = config.parent / "run"
    process = started("-m", "sightline", "train", config, *options)
    wait_until(process, lambda: len(steps(run)) > 2)
    process.send_signal(signum)
    code, out, err = finish(process)
    assert code == 128 + signum
    last = state(run)["steps"]
    assert err == (
        f"sightline: stopped by {name} after step {last} of 4000: a checkpoint is saved.\n"
        f"Go on with sightline resume {run}\n"
    )
    assert f"{name}: the step ends and a checkpoint is saved; once more ends at once." in out
    assert state(run)["state"] == "stopped"
    assert [path.name for path in (run / "checkpoints").iterdir()] == [f"checkpoint-{last}"]
    assert steps(run) == list(range(1, last + 1))
    # A run that was stopped is not thrown away by mistake.
    refused = command("train", config)
    assert refused.code == 2
    assert "an unfinished run with checkpoints is there" in refused.err
    process = started("-m", "sightline", "train", config, "--resume", *options)
    wait_until(process, lambda: len(steps(run)) > last + 1)
    process.send_signal(signum)
    assert finish(process)[0] == 128 + signum
    assert state(run)["steps"] > last
    assert steps(run) == list(range(1, state(run)["steps"] + 1))


@pytest.mark.parametrize("options", [[], ["--processes", 2]])
def test_a_signal_before_training_leaves_nothing(
    config: Path, options: list[object], started: Any
) -> None:
    # In processes that load torch, as all do that no test has started.
    cold = {"SIGHTLINE_TESTS_COLD": "1"}
    process = started("-m", "sightline", "train", config, *options, **cold)
    wait_until(process, lambda: has_begun(process.pid, options))
    process.send_signal(signal.SIGTERM)
    code, _, err = finish(process)
    assert code == 143
    assert err == "sightline: stopped.\n"
    assert not (config.parent / "run" / "checkpoints").exists()


def test_the_end_of_memory_names_the_rows(config: Path, started: Any) -> None:
    program = config.with_name("out_of_memory.py")
    program.write_text(OUT_OF_MEMORY)
    code, _, err = finish(started(program, "train", config))
    data = config.parent / "train.jsonl"
    assert code == 3
    lines = err.splitlines()
    assert lines[0] == "sightline: out of memory on the GPU: 2.5 GiB more were asked for."
    assert lines[1].startswith("It was on 2 samples with ")
    assert lines[2].startswith(f"  {data}:")
    assert "  training.batch_size: 1 with training.gradient_accumulation: 2 (now 2 and 1)" in lines
    assert "Traceback" not in err


@pytest.mark.parametrize("when", ["at any moment", "in a forward pass"])
def test_a_data_worker_that_dies_names_what_it_read(config: Path, when: str, started: Any) -> None:
    program = config.with_name("program.py")
    program.write_text(WORKER_KILLED if when == "in a forward pass" else NAMES_ITSELF)
    process = started(program, "train", config, "--set", "training.num_workers=1")
    if when == "at any moment":
        run = config.parent / "run"
        wait_until(process, lambda: len(steps(run)) > 2)
        for child in children(int(config.with_name("pid").read_text())):
            os.kill(child, signal.SIGKILL)
    code, _, err = finish(process)
    assert code == 2, err
    assert "data worker" in err
    assert "killed by SIGKILL" in err
    assert "Traceback" not in err
