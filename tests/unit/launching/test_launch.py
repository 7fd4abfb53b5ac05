"""Processes that are started together end together, and what one failed of is told first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

DRIVER = Path(__file__).with_name("driver.py")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")


class Outcome(NamedTuple):
    code: int
    out: str
    err: str
    seconds: float


def start(run: Path, *act: object, num: int = 2, restarts: int = 0) -> subprocess.Popen[str]:
    run.mkdir(exist_ok=True)
    words = [str(one) for one in (run, num, restarts, *act)]
    # Real processes all: what they are to one another is what is tested here.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SIGHTLINE_TESTS_COLD": "1"}
    return subprocess.Popen(
        [sys.executable, str(DRIVER), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], began: float | None = None) -> Outcome:
    try:
        out, err = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return Outcome(process.returncode, out, err, time.monotonic() - (began or 0.0))


def launched(run: Path, *act: object, num: int = 2, restarts: int = 0) -> Outcome:
    return finish(start(run, *act, num=num, restarts=restarts), time.monotonic())


def wait_for(*paths: Path) -> None:
    until = time.monotonic() + 30
    while not all(path.exists() and path.read_text() for path in paths):
        assert time.monotonic() < until, f"{paths} never came"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    if sys.platform != "linux":
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def gone(*files: Path) -> bool:
    """Whether the processes whose numbers stand in files are gone, or go within a second."""
    until = time.monotonic() + 1
    pids = [int(file.read_text()) for file in files]
    while any(is_running(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.02)
    return not any(is_running(pid) for pid in pids)


def test_every_process_knows_its_place(tmp_path: Path) -> None:
    assert launched(tmp_path, "environment").code == 0
    assert (tmp_path / "0.txt").read_text() == "['0', '2', '0', '2', '1']"
    assert (tmp_path / "1.txt").read_text() == "['1', '2', '1', '2', '1']"


def test_one_process_is_told_of_no_ranks(tmp_path: Path) -> None:
    assert launched(tmp_path, "environment", num=1).code == 0
    assert (tmp_path / "0.txt").read_text() == "[None, None, None, None, '1']"


def test_rank_0_has_the_terminal_and_the_others_have_logs(tmp_path: Path) -> None:
    outcome = launched(tmp_path, "speak")
    assert outcome[:3] == (0, "out of 0\n", "err of 0\n")
    assert (tmp_path / "logs" / "rank-0.log").read_text() == "err of 0\n"
    assert sorted((tmp_path / "logs" / "rank-1.log").read_text().splitlines()) == [
        "err of 1",
        "out of 1",
    ]


def test_what_is_wrong_for_all_is_told_once_as_if_there_were_one(tmp_path: Path) -> None:
    outcome = launched(tmp_path, "refuse", num=3)
    assert outcome[:3] == (2, "", "sightline: train.jsonl:10: the picture is cut short.\n")
    assert not list(tmp_path.iterdir())


def test_what_is_wrong_for_one_ends_the_others_and_names_it(tmp_path: Path) -> None:
    outcome = launched(tmp_path, "refuse-one")
    assert outcome.code == 2
    assert outcome.err == "sightline: rank 1 of 2: train.jsonl:10: the picture is cut short.\n"
    assert outcome.seconds < 15


def test_an_unknown_error_shows_its_end_and_its_log(tmp_path: Path) -> None:
    outcome = launched(tmp_path, "fail-one")
    assert outcome.code == 1
    first, *others = outcome.err.splitlines()
    assert first == (
        "sightline: rank 1 of 2 ended with exit code 1: ZeroDivisionError: nobody's to mend"
    )
    assert others[-2].strip() == "ZeroDivisionError: nobody's to mend"
    log = tmp_path / "logs" / "rank-1.log"
    assert others[-1] == f"All of it is in {log}"
    assert "Traceback" in log.read_text()
    assert gone(tmp_path / "0.pid")


def test_an_error_before_there_is_a_run_shows_everything(tmp_path: Path) -> None:
    outcome = launched(tmp_path, "fail-early")
    assert outcome.code == 1
    assert "Traceback (most recent call last):" in outcome.err
    assert not (tmp_path / "logs").exists()


def test_a_process_that_is_killed_is_named_with_the_signal(tmp_path: Path) -> None:
    outcome = launched(tmp_path, "kill-one")
    assert outcome.code == 128 + signal.SIGKILL
    assert outcome.err.startswith("sightline: rank 1 of 2 was killed by SIGKILL.\n")
    assert "memory ran out" in outcome.err
    assert gone(tmp_path / "0.pid")


def test_a_process_that_leaves_without_a_word_is_named_with_its_last_lines(tmp_path: Path) -> None:
    outcome = launched(tmp_path, "exit-one")
    assert outcome.code == 7
    assert outcome.err.startswith("sightline: rank 1 of 2 ended with exit code 7, without an error")
    assert "  the last words\n" in outcome.err


def test_a_process_that_crashes_is_named_with_the_signal(tmp_path: Path) -> None:
    outcome = launched(tmp_path, "crash-one")
    assert outcome.code == 128 + signal.SIGSEGV
    assert outcome.err.startswith("sightline: rank 1 of 2 was killed by SIGSEGV.\n")
    assert "memory ran out" not in outcome.err


@pytest.mark.parametrize(
    ("act", "code", "words"),
    [
        ("kill-one", 137, "rank 1 of 2 was killed by SIGKILL."),
        ("exit-one", 7, "rank 1 of 2 ended with exit code 7, without an error of Python's."),
        ("raise", 1, "rank 1 of 2 ended with exit code 1: ZeroDivisionError: nobody's to mend"),
    ],
)
def test_the_one_that_failed_is_told_and_not_the_one_that_waited(
    tmp_path: Path, act: str, code: int, words: str
) -> None:
    """Rank 0 is in a reduction of gloo, and complains of the line that broke."""
    outcome = launched(tmp_path, "reduce", act)
    assert outcome.code == code
    assert outcome.err.splitlines()[0] == f"sightline: {words}"
    assert "rank 0" not in outcome.err
    assert "gloo" not in outcome.err
    assert outcome.seconds < 30


def test_a_complaint_that_comes_before_its_cause_is_known_is_not_shown(tmp_path: Path) -> None:
    outcome = launched(tmp_path, "complain")
    assert outcome.code == 137
    assert outcome.err.startswith("sightline: rank 1 of 2 was killed by SIGKILL.\n")
    assert "reset by peer" not in outcome.err


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_all_save_however_long_it_takes(tmp_path: Path, signum: int) -> None:
    process = start(tmp_path, "stop", 4.0)
    wait_for(tmp_path / "0.pid", tmp_path / "1.pid")
    process.send_signal(signum)
    began = time.monotonic()
    outcome = finish(process, began)
    assert outcome.code == 128 + signum
    assert outcome.err == "sightline: stopped after step 3: the checkpoint is saved.\n"
    assert (tmp_path / "0.saved").exists()
    assert outcome.seconds >= 3.9


def test_a_signal_to_the_launcher_and_its_group_is_one(tmp_path: Path) -> None:
    """As timeout(1) sends it."""
    process = start(tmp_path, "stop", 0.5)
    wait_for(tmp_path / "0.pid", tmp_path / "1.pid")
    process.send_signal(signal.SIGTERM)
    time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert finish(process, time.monotonic()).code == 143
    assert (tmp_path / "0.saved").exists()


def test_a_second_signal_ends_all_at_once(tmp_path: Path) -> None:
    process = start(tmp_path, "stop", 60.0)
    wait_for(tmp_path / "0.pid", tmp_path / "1.pid")
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    outcome = finish(process, time.monotonic())
    assert outcome.code == 130
    assert outcome.err == "sightline: stopped.\n"
    assert outcome.seconds < 3
    assert not (tmp_path / "0.saved").exists()
    assert gone(tmp_path / "0.pid", tmp_path / "1.pid")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_training_ends_all(tmp_path: Path, signum: int) -> None:
    files = [tmp_path / f"{rank}.{kind}" for rank in (0, 1) for kind in ("pid", "child")]
    process = start(tmp_path, "wait")
    wait_for(*files)
    process.send_signal(signum)
    outcome = finish(process, time.monotonic())
    assert outcome.code == 128 + signum
    assert outcome.err == "sightline: stopped.\n"
    assert outcome.seconds < 3
    # What they started goes, too.
    assert gone(*files)


def test_one_that_heeds_nothing_is_ended_by_the_second(tmp_path: Path) -> None:
    process = start(tmp_path, "wait", "stubborn")
    wait_for(tmp_path / "0.child", tmp_path / "1.child")
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    time.sleep(3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    outcome = finish(process, time.monotonic())
    assert outcome.code == 130
    assert gone(tmp_path / "0.pid", tmp_path / "1.pid")


def test_processes_save_and_end_when_the_launcher_is_killed(tmp_path: Path) -> None:
    process = start(tmp_path, "lifeline")
    wait_for(tmp_path / "0.pid", tmp_path / "1.pid")
    time.sleep(0.3)
    process.kill()
    process.communicate(timeout=30)
    assert gone(tmp_path / "0.pid", tmp_path / "1.pid")
    assert (tmp_path / "0.saved").exists()
    assert (tmp_path / "1.saved").exists()


def test_a_crash_is_followed_by_another_start(tmp_path: Path) -> None:
    outcome = launched(tmp_path, "third-time", restarts=3)
    assert outcome.code == 0
    assert outcome.err.count("rank 1 of 2 was killed by SIGKILL.") == 2
    assert outcome.err.count("sightline: starting again, 1 of 3 times.\n") == 1
    assert outcome.err.count("sightline: starting again, 2 of 3 times.\n") == 1
    tries = [(tmp_path / f"1-{number}.try").read_text() for number in range(3)]
    assert tries == ["third-time", "third-time again-True", "third-time again-True"]


def test_the_last_start_is_the_last(tmp_path: Path) -> None:
    outcome = launched(tmp_path, "third-time", restarts=1)
    assert outcome.code == 137
    assert outcome.err.count("rank 1 of 2 was killed by SIGKILL.") == 2


@pytest.mark.parametrize("act", ["refuse"])
def test_bad_input_is_not_tried_again(tmp_path: Path, act: str) -> None:
    outcome = launched(tmp_path, act, restarts=3)
    assert outcome[:3] == (2, "", "sightline: train.jsonl:10: the picture is cut short.\n")


def test_a_run_that_is_told_to_stop_is_not_started_again(tmp_path: Path) -> None:
    process = start(tmp_path, "stop", 0.1, restarts=3)
    wait_for(tmp_path / "0.pid", tmp_path / "1.pid")
    process.send_signal(signal.SIGTERM)
    outcome = finish(process, time.monotonic())
    assert outcome.code == 143
    assert "starting again" not in outcome.err


@pytest.mark.parametrize("act", [("speak",), ("refuse",), ("reduce", "kill-one")])
def test_nothing_is_left_in_the_folder_for_temporary_files(
    tmp_path: Path, act: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    launched(tmp_path / "run", *act)
    assert not list(temporary.iterdir())
