"""A signal ends the step, saves and stops; all processes after the same step; a second ends all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sightline.errors import Interrupted
from sightline.training.stopping import StopSignals, signal_name

SCRIPT = Path(__file__).with_name("stopping_run.py")

LAUNCH = """
import sys
from pathlib import Path
from sightline.launching import Launch, launch
from sightline.records import RunDirectory
command = [sys.executable, *sys.argv[1:]]
run = RunDirectory(Path(sys.argv[2]) / "run")
what = Launch(
    command=command, again=lambda begun: command, num_processes=2, max_restarts=0, run=run
)
sys.exit(launch(what, lambda text: print(text, file=sys.stderr)))
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path, started: Start) -> Start:
    """Starts the training in one process, or in two."""

    def begin(act: str, *, processes: int = 1) -> subprocess.Popen[str]:
        command = [str(SCRIPT), str(tmp_path), act]
        if processes == 2:
            program = tmp_path / "launch.py"
            program.write_text(LAUNCH)
            command.insert(0, str(program))
        return started(*command)

    return begin


def said(folder: Path, rank: int = 0) -> list[str]:
    file = folder / f"said-{rank}.txt"
    return file.read_text().splitlines() if file.exists() else []


def wait_until(process: subprocess.Popen[str], holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 90
    while not holds():
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            raise AssertionError(process.communicate())
        time.sleep(0.02)


def end(process: subprocess.Popen[str], seconds: float = 60) -> tuple[int, str]:
    try:
        _, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, err


def steps(folder: Path, rank: int = 0) -> int:
    return sum(line.startswith("step ") for line in said(folder, rank))


def checkpoints(folder: Path) -> list[str]:
    found = folder / "run" / "checkpoints"
    return sorted(path.name for path in found.iterdir()) if found.is_dir() else []


def state(folder: Path) -> dict:
    return json.loads((folder / "run" / "run.json").read_text())


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops(tmp_path: Path, start: Start, signum: int) -> None:
    process = start("steps")
    wait_until(process, lambda: steps(tmp_path) >= 3)
    process.send_signal(signum)
    code, _ = end(process)
    assert code == 128 + signum
    last = steps(tmp_path)
    lines = said(tmp_path)
    name = signal_name(signum)
    # Whenever the signal is noticed, which may be while the checkpoint is being saved.
    lines.remove(f"{name}: the step ends and a checkpoint is saved; once more ends at once.")
    assert lines[-5:] == [
        f"saving {last}",
        f"saved {last}",
        "trained",
        f"stopped: stopped by {name} after step {last} of 100000: a checkpoint is saved.",
        f"Go on with sightline resume {tmp_path / 'run'}",
    ]
    assert checkpoints(tmp_path) == [f"checkpoint-{last}"]
    assert (state(tmp_path)["state"], state(tmp_path)["steps"]) == ("stopped", last)


@pytest.mark.parametrize("whom", ["launcher", "rank 1 alone"])
def test_all_processes_stop_after_the_same_step(tmp_path: Path, start: Start, whom: str) -> None:
    process = start("steps", processes=2)
    wait_until(process, lambda: min(steps(tmp_path, 0), steps(tmp_path, 1)) >= 3)
    if whom == "launcher":
        process.send_signal(signal.SIGTERM)
    else:
        os.kill(int((tmp_path / "1.pid").read_text()), signal.SIGTERM)
    code, err = end(process)
    assert code == 143
    last = steps(tmp_path, 0)
    assert steps(tmp_path, 1) == last
    assert checkpoints(tmp_path) == [f"checkpoint-{last}"]
    assert err.startswith(f"stopped by SIGTERM after step {last} of 100000")
    assert err.count("stopped by") == 1


def test_epochs_that_are_cut_short_are_neither_evaluated_nor_saved_again(
    tmp_path: Path, start: Start
) -> None:
    process = start("epochs")
    wait_until(process, lambda: steps(tmp_path) >= 11)
    process.send_signal(signal.SIGINT)
    assert end(process)[0] == 130
    last, lines = steps(tmp_path), said(tmp_path)
    after = lines[lines.index(f"step {last}") :]
    if last % 8:
        # No epoch ends with that step.
        assert "evaluating" not in after
    assert after.count(f"saving {last}") == 1


def test_an_evaluation_ends_before_the_run_stops(tmp_path: Path, start: Start) -> None:
    process = start("evaluation")
    wait_until(process, lambda: "evaluating" in said(tmp_path))
    process.send_signal(signal.SIGINT)
    assert end(process)[0] == 130
    lines = said(tmp_path)
    assert steps(tmp_path) == 5
    assert lines.index("evaluated 5") < lines.index("saving 5")
    assert checkpoints(tmp_path) == ["checkpoint-5"]


def test_a_second_signal_ends_a_save_at_once(tmp_path: Path, start: Start) -> None:
    process = start("long-save")
    wait_until(process, lambda: steps(tmp_path) >= 2)
    process.send_signal(signal.SIGTERM)
    wait_until(process, lambda: any(line.startswith("saving") for line in said(tmp_path)))
    process.send_signal(signal.SIGINT)
    assert end(process, 5)[0] == 130
    assert checkpoints(tmp_path) == []
    assert state(tmp_path)["state"] == "training"


def test_a_signal_to_a_process_and_its_group_is_one(tmp_path: Path, start: Start) -> None:
    """As timeout(1) sends it: both are seen, one after the other, while the step is in C++."""
    process = start("step-in-c")
    wait_until(process, lambda: "in the step" in said(tmp_path))
    process.send_signal(signal.SIGTERM)
    time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert end(process)[0] == 143
    assert checkpoints(tmp_path) == ["checkpoint-1"]


def test_a_second_signal_does_not_wait_for_the_step(tmp_path: Path, start: Start) -> None:
    """Python runs no handler while a step is in C++: the thread sees both signals there."""
    process = start("long-step")
    wait_until(process, lambda: "in the step" in said(tmp_path))
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    assert end(process, 5)[0] == 130
    assert steps(tmp_path) == 0
    assert checkpoints(tmp_path) == []


@pytest.mark.parametrize(
    ("act", "signum"),
    [("before", signal.SIGTERM), ("late", signal.SIGINT), ("export", signal.SIGTERM)],
)
def test_outside_of_training_a_signal_ends_the_run_where_it_is(
    tmp_path: Path, start: Start, act: str, signum: int
) -> None:
    process = start(act)
    wait_until(process, lambda: "waiting" in said(tmp_path))
    process.send_signal(signum)
    assert end(process)[0] == 128 + signum
    assert said(tmp_path).count("interrupted") == 1
    assert said(tmp_path)[-1] == "interrupted"
    assert ("exporting" in said(tmp_path)) == (act == "export")
    assert state(tmp_path)["state"] == "training"


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    with StopSignals():
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before
    assert signal.set_wakeup_fd(wakeup) == wakeup


def test_a_signal_that_is_turned_off_stays_off() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopSignals():
            os.kill(os.getpid(), signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_nothing_is_changed() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def use() -> None:
        with StopSignals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert seen == [before]


def test_outside_of_training_it_is_raised_here() -> None:
    with StopSignals(), pytest.raises(Interrupted) as caught:
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.signum == signal.SIGTERM


def test_a_child_that_is_forked_is_ended_like_any_other() -> None:
    """Its signals must not count as the run's: DataLoader ends its workers by SIGTERM."""
    with StopSignals() as signals:
        signals.is_training = True
        child = os.fork()
        if child == 0:
            time.sleep(30)
            os._exit(0)
        time.sleep(0.2)
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGTERM
        time.sleep(0.1)
        assert signals.asked is None


def test_a_child_that_lives_on_holds_nobody_up() -> None:
    """Workers of a loader that is kept are there when training is over."""
    with StopSignals():
        child = os.fork()
        if child == 0:
            time.sleep(30)
            os._exit(0)
        began = time.monotonic()
    try:
        assert time.monotonic() - began < 5
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
