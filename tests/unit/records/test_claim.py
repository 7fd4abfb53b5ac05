"""One process at a time works in a run directory."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import RunError
from sightline.records import RunDirectory, claimed, is_at_work, refuse_claimed
from sightline.records.claim import CLAIM

# Has the run, says so, and waits; with a child that was forked meanwhile.
HOLDER = """
import os, sys, time
from pathlib import Path
from sightline.records import claimed
with claimed(Path(sys.argv[1]), print):
    child = os.fork()
    if child:
        print(child, flush=True)
    time.sleep(600)
"""


def silent(text: str) -> None:
    raise AssertionError(text)


@contextmanager
def held(run: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Another process that has the run, and the process that it forked."""
    command = [sys.executable, "-c", HOLDER, str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            yield process, child
        finally:
            process.kill()
            os.kill(child, signal.SIGKILL)


def test_another_process_is_kept_out_and_told_of(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with held(run) as (process, _):
        for attempt in (lambda: refuse_claimed(run), claimed(run, silent).__enter__):
            with pytest.raises(RunError) as caught:
                attempt()
            what, todo = str(caught.value).splitlines()
            who = f"{run}: process {process.pid} on {socket.gethostname()}, since "
            assert what.startswith(who)
            assert what.endswith(" UTC, is at work in this run directory.")
            assert todo == "Wait for its end, stop it, or choose another output."
        assert (run / CLAIM).is_file()


def test_the_lock_ends_with_the_process_and_not_with_its_children(tmp_path: Path) -> None:
    with held(tmp_path) as (process, child):
        process.kill()
        process.wait()
        os.kill(child, 0)
        refuse_claimed(tmp_path)
        with claimed(tmp_path, silent):
            assert f'"pid": {os.getpid()},' in (tmp_path / CLAIM).read_text()


def test_whether_a_process_is_at_work_can_be_seen(tmp_path: Path) -> None:
    assert is_at_work(tmp_path / "none") is False
    with held(tmp_path) as (process, _):
        assert is_at_work(tmp_path) is True
        process.kill()
        process.wait()
        assert (tmp_path / CLAIM).is_file()
        assert is_at_work(tmp_path) is False


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"pid": 1}', '{"pid": -1, "host": "HERE", "since": ""}',
     '{"pid": 1, "host": "elsewhere", "since": ""}'],
)  # fmt: skip
def test_what_cannot_be_known_is_not_claimed_to_be(tmp_path: Path, content: str) -> None:
    (tmp_path / CLAIM).write_text(content.replace("HERE", socket.gethostname()))
    assert is_at_work(tmp_path) is None
    refuse_claimed(tmp_path)


def test_a_process_of_another_user_is_at_work(tmp_path: Path) -> None:
    held_by = '{"pid": 1, "host": "HERE", "since": ""}'
    (tmp_path / CLAIM).write_text(held_by.replace("HERE", socket.gethostname()))
    assert is_at_work(tmp_path) is True


def test_nothing_stays(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for _ in range(2):
        with claimed(run, silent):
            assert [path.name for path in run.iterdir()] == [CLAIM]
        assert list(run.iterdir()) == []
    refuse_claimed(run)
    refuse_claimed(tmp_path / "none")
    (tmp_path / "file").touch()
    refuse_claimed(tmp_path / "file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "run"]


def test_a_run_is_made_around_its_claim(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run")
    run.plan.touch()
    # What a process left that was killed with the claim.
    (run.path / CLAIM).touch()
    with claimed(run.path, silent):
        RunDirectory.create(run.path)
        assert sorted(path.name for path in run.path.iterdir()) == [CLAIM, "run.json"]
        with pytest.raises(RunError, match="is at work in this run directory"):
            _in_another_process(run.path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / CLAIM).touch()
    RunDirectory.refuse_occupied(tmp_path / "empty")


def _in_another_process(run: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom sightline.records import refuse_claimed\n"
        "refuse_claimed(Path(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RunError(done.stderr)


def test_a_file_that_went_between_opening_and_locking_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lockf, num_calls = fcntl.lockf, 0

    def late(descriptor: int, how: int) -> None:
        nonlocal num_calls
        num_calls += 1
        if num_calls == 1:
            # As the one does who had it, at its end.
            (tmp_path / CLAIM).unlink()
        lockf(descriptor, how)

    monkeypatch.setattr(fcntl, "lockf", late)
    with claimed(tmp_path, silent):
        assert num_calls == 2
        with pytest.raises(RunError, match="is at work in this run directory"):
            _in_another_process(tmp_path)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP])
def test_a_file_system_without_locks_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    told: list[str] = []
    refuse_claimed(tmp_path)
    with claimed(tmp_path, told.append):
        pass
    [text] = told
    assert text.startswith(f"{tmp_path}: this file system has no locks.")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="file"), claimed(tmp_path / "file", silent):
        pass
