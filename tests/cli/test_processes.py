"""``--processes`` and ``--max-restarts``: processes are one run, and two commands are not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

ONE_THREAD = {"OMP_NUM_THREADS": "1"}
Configured = Callable[..., Path]


@pytest.fixture
def configured(workbench: Any) -> Configured:
    """A configuration of eight samples that trains for so many steps, unverified."""

    def write(**changes: object) -> Path:
        settings: dict[str, object] = {
            "training__max_steps": 6,
            "training__batch_size": 2,
            "training__learning_rate": 1e-3,
            "verify__enabled": False,
        }
        return workbench([workbench.row() for _ in range(8)], **{**settings, **changes})

    return write


def start(*words: object, launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", *launcher, *(["-m"] if launcher else []), "sightline"]
    return subprocess.Popen(
        [*command, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # What a run starts is found by this.
        env={**os.environ, **ONE_THREAD, "TEST_OF": str(Path(str(words[1])).parent / "run")},
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out, err


def with_variables(**wanted: str | None) -> int:
    """The first process that was started with these variables; None is any value."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with suppress(OSError):
            words = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
            has = dict(word.split("=", 1) for word in words if "=" in word)
            if all(name in has and value in (None, has[name]) for name, value in wanted.items()):
                found.append(int(folder.name))
    return min(found)


def rank_pid(run: Path, rank: int) -> int:
    return with_variables(TEST_OF=str(run), RANK=str(rank))


def wait_until(process: subprocess.Popen[str], holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 200
    while not holds():
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            raise AssertionError(process.communicate())
        time.sleep(0.02)


def state(run: Path) -> dict[str, Any]:
    return json.loads((run / "run.json").read_text())


def steps(run: Path) -> list[int]:
    file = run / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return [entry["step"] for entry in map(json.loads, lines) if "loss" in entry]


def test_two_processes_are_one_run_with_one_certificate(configured: Configured) -> None:
    config = configured(verify__enabled=True)
    code, out, err = finish(start("train", config, "--processes", 2))
    run = config.parent / "run"
    assert (code, err) == (0, "")
    assert out.count("trained 6 steps") == 1
    assert out.count("verdict The exported model is the model that was trained.") == 1
    assert steps(run) == [1, 2, 3, 4, 5, 6]
    assert state(run)["state"] == "verified"
    assert state(run)["batches"]["num_processes"] == 2
    assert (run / "report.html").is_file()


def test_accelerate_launch_is_as_good(configured: Configured) -> None:
    config = configured(training__max_steps=2)
    # It starts several processes without MPI where it is told of GPUs alone.
    launcher = ("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2")
    code, out, err = finish(start("train", config, launcher=launcher))
    assert code == 0, err
    assert out.count("trained 2 steps") == 1
    run = config.parent / "run"
    assert state(run)["state"] == "trained"
    assert state(run)["batches"]["num_processes"] == 2


def test_two_machines_are_one_run(configured: Configured, free_port: Callable[[], int]) -> None:
    """Each has a torchrun and a first process of its own, and in common nothing but the folder."""
    config = configured()
    endpoint = f"127.0.0.1:{free_port()}"
    meeting = ("--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint, "--rdzv-id", "a")
    each = ("--nnodes", "2", "--nproc-per-node", "1", "--local-addr", "127.0.0.1")
    launcher = ("torch.distributed.run", *each, *meeting)
    machines = [start("train", config, launcher=launcher) for _ in range(2)]
    ended = [finish(machine) for machine in machines]
    assert [code for code, _, _ in ended] == [0, 0], [err for _, _, err in ended]
    assert sum(out.count("trained 6 steps") for _, out, _ in ended) == 1
    run = config.parent / "run"
    assert state(run)["state"] == "trained"
    assert state(run)["batches"]["num_processes"] == 2
    assert steps(run) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_second_command_is_kept_out_of_a_run_that_trains(
    configured: Configured, command: Any, processes: int
) -> None:
    config = configured(training__max_steps=5000, training__save_every=100_000)
    run = config.parent / "run"
    first = start("train", config, "--processes", processes)
    wait_until(first, lambda: len(steps(run)) > 2)
    # It has no checkpoint yet: what holds nothing gives way, but not while it is at work.
    for second in (
        ["train", config],
        ["train", config, "--overwrite"],
        ["train", config, "--resume"],
        ["resume", run],
    ):
        refused = command(*second)
        assert refused.code == 2, second
        assert f"{run}: process " in refused.err
        assert "is at work in this run directory.\nWait for its end" in refused.err
    seen = len(steps(run))
    wait_until(first, lambda: len(steps(run)) > seen)
    first.send_signal(signal.SIGTERM)
    code, _, err = finish(first)
    assert code == 143, err
    assert steps(run) == list(range(1, state(run)["steps"] + 1))
    # Its claim went with it.
    assert not [path.name for path in run.iterdir() if path.name.startswith(".")]


def test_a_rank_that_is_killed_ends_the_run_and_is_named(configured: Configured) -> None:
    config = configured(training__max_steps=5000)
    run = config.parent / "run"
    process = start("train", config, "--processes", 2)
    wait_until(process, lambda: len(steps(run)) > 2)
    pids = [rank_pid(run, rank) for rank in (0, 1)]
    os.kill(pids[1], signal.SIGKILL)
    began = time.monotonic()
    code, _, err = finish(process)
    assert code == 137
    assert err.splitlines()[0] == "sightline: rank 1 of 2 was killed by SIGKILL."
    assert "gloo" not in err
    assert "Traceback" not in err
    assert time.monotonic() - began < 15
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_crash_is_followed_by_the_rest_of_the_run(configured: Configured) -> None:
    config = configured(training__max_steps=12, training__save_every=1)
    run = config.parent / "run"
    process = start("train", config, "--processes", 2, "--max-restarts", 1)
    wait_until(process, lambda: (run / "checkpoints" / "checkpoint-3").is_dir())
    os.kill(rank_pid(run, 1), signal.SIGKILL)
    code, out, err = finish(process)
    assert code == 0, err
    assert err.splitlines()[0] == "sightline: rank 1 of 2 was killed by SIGKILL."
    assert "sightline: starting again, 1 of 1 times.\n" in err
    # Gone on with, not begun anew: every step stands once.
    assert steps(run) == list(range(1, 13))
    assert "trained 12 steps" in out
    assert state(run)["state"] == "trained"


def test_one_process_is_started_again_too(configured: Configured) -> None:
    config = configured(training__max_steps=12, training__save_every=1)
    run = config.parent / "run"
    process = start("train", config, "--max-restarts", 1)
    wait_until(process, lambda: (run / "checkpoints" / "checkpoint-3").is_dir())
    os.kill(with_variables(TEST_OF=str(run), SIGHTLINE_LAUNCHER=None), signal.SIGKILL)
    code, _, err = finish(process)
    assert code == 0, err
    assert err.startswith("sightline: the run was killed by SIGKILL.\n")
    assert steps(run) == list(range(1, 13))


def test_bad_input_is_told_as_by_one_process(configured: Configured, command: Any) -> None:
    config = configured(tuning__language__targets=["no_such_layer"])
    alone = command("train", config)
    together = finish(start("train", config, "--processes", 2, "--max-restarts", 3))
    assert alone.code == 2
    assert alone.err.startswith("sightline: ")
    assert (together[0], together[2]) == (alone.code, alone.err)
    assert not (config.parent / "run").exists()


def test_our_options_are_not_for_a_process_of_another_launcher(
    configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    code, _, err = finish(start("train", configured(), "--processes", 2))
    assert code == 2
    assert "started by torchrun or another launcher" in err
