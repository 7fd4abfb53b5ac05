"""Workers of a loader: errors that travel whole, and samples that are named when a worker dies."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from sightline.data.conversation import Origin
from sightline.data.workers import WatchedDataset, WorkerBoard, received
from sightline.errors import DataError, MediaError, StoppedError


@pytest.fixture(autouse=True)
def _impatient_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loader that is left to the garbage collector waits until its workers look up."""
    monkeypatch.setattr("torch.utils.data._utils.worker.MP_STATUS_CHECK_INTERVAL", 0.2)


linux = pytest.mark.skipif(sys.platform != "linux", reason="signals of Linux")


def origin_of(sample: int) -> Origin:
    return Origin(file=Path("train.jsonl"), line=sample + 1, index=sample)


class AwkwardError(Exception):
    """Cannot be made again of what it holds."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


class Samples:
    """Sixteen samples, of which one does what it is told."""

    def __init__(self, bad: int, act: Callable[[int], None]) -> None:
        self._bad, self._act = bad, act

    def __len__(self) -> int:
        return 16

    def __getitem__(self, number: int) -> int:
        if number == self._bad:
            self._act(number)
        return number


class Batches(Dataset[torch.Tensor]):
    """Four samples a batch."""

    def __init__(self, samples: Samples, board: WorkerBoard) -> None:
        self._samples, self._board = samples, board

    def __len__(self) -> int:
        return 4

    def __getitem__(self, batch: int) -> torch.Tensor:
        numbers = range(4 * batch, 4 * batch + 4)
        return torch.tensor(list(self._board.opening(self._samples, numbers)))


def refuse(number: int) -> None:
    raise MediaError(
        "the picture is cut short.",
        file="train.jsonl",
        line=number + 1,
        field="images[0]",
        fix="Take it out.",
        code="media.broken",
    )


def fail(number: int) -> None:
    raise ZeroDivisionError("nobody's to mend")


def fail_awkwardly(number: int) -> None:
    raise AwkwardError(1, 2)


def die(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def crash(number: int) -> None:
    ctypes.string_at(0)


def leave(number: int) -> None:
    os._exit(7)


def load(act: Callable[[int], None], *, num_workers: int, bad: int = 9) -> Iterator[torch.Tensor]:
    """Batches as a run loads them; what a worker ends with is explained as a run does it."""
    board = WorkerBoard(num_workers)
    loader: DataLoader[torch.Tensor] = DataLoader(
        WatchedDataset(Batches(Samples(bad, act), board), board),
        batch_size=None,
        num_workers=num_workers,
        worker_init_fn=board.begin,
    )
    try:
        yield from received(loader, origin_of)
    except Exception as error:
        explained = board.explain(error, origin_of)
        if explained is None:
            raise
        raise explained from error


@pytest.mark.parametrize("num_workers", [0, 2])
def test_without_faults_everything_arrives_in_order(num_workers: int) -> None:
    batches = list(load(refuse, num_workers=num_workers, bad=99))
    assert torch.cat(batches).tolist() == list(range(16))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_error_of_the_users_arrives_as_it_was_raised(num_workers: int) -> None:
    with pytest.raises(MediaError) as caught:
        list(load(refuse, num_workers=num_workers))
    error = caught.value
    assert str(error) == "train.jsonl:10: images[0]: the picture is cut short.\nTake it out."
    assert (error.file, error.line, error.field) == ("train.jsonl", 10, "images[0]")
    assert (error.fix, error.code) == ("Take it out.", "media.broken")
    assert "Traceback" not in str(error)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_any_other_error_keeps_its_kind_and_names_the_sample(num_workers: int) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        list(load(fail, num_workers=num_workers))
    assert str(caught.value) == "nobody's to mend"
    notes = caught.value.__notes__
    assert notes[0] == "while train.jsonl:10 was loaded"
    if num_workers:
        assert "in fail" in notes[1]


def test_an_error_that_cannot_travel_arrives_by_its_text() -> None:
    with pytest.raises(RuntimeError, match="AwkwardError: 1 and 2") as caught:
        list(load(fail_awkwardly, num_workers=1))
    assert "fail_awkwardly" in caught.value.__notes__[1]


@linux
@pytest.mark.parametrize(
    ("act", "words"),
    [
        (die, ["killed by SIGKILL", "lack of memory", "num_workers"]),
        (crash, ["killed by SIGSEGV", "a library broke on it", "Take the sample out"]),
        (leave, ["ended by itself", "training.num_workers: 0"]),
    ],
)
@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_worker_that_dies_names_its_sample(
    num_workers: int, act: Callable[[int], None], words: list[str]
) -> None:
    with pytest.raises(DataError) as caught:
        list(load(act, num_workers=num_workers))
    error = caught.value
    assert (error.file, error.line, error.code) == ("train.jsonl", 10, "worker.died")
    for word in words:
        assert word in str(error)


def test_what_is_no_worker_is_not_explained() -> None:
    board = WorkerBoard(2)
    assert board.explain(RuntimeError("shapes differ"), origin_of) is None
    assert board.explain(ValueError("DataLoader worker (pid 3) exited"), origin_of) is None


def test_a_worker_between_samples_names_none() -> None:
    board = WorkerBoard(1)
    error = RuntimeError("DataLoader worker (pid 3) is killed by signal: Killed. ")
    explained = board.explain(error, origin_of)
    assert explained is not None
    assert explained.file is None
    assert "between two samples" in str(explained)


def test_shared_memory_that_is_full_is_named() -> None:
    board = WorkerBoard(1)
    board.on(3)
    text = f"DataLoader worker (pid {os.getpid()}) is killed by signal: Bus error. It is possible"
    board._pids[0] = os.getpid()
    explained = board.explain(RuntimeError(text), origin_of)
    assert explained is not None
    assert explained.line == 4
    assert "/dev/shm" in str(explained)


class Signals(Dataset[list[bool]]):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> list[bool]:
        return [signal.getsignal(signal.SIGINT) is signal.SIG_IGN]


def test_ctrl_c_is_for_the_process_that_trains() -> None:
    """A worker that Ctrl-C ended would take the data of the step with it that is to be saved."""
    board = WorkerBoard(1)
    loader = DataLoader(Signals(), batch_size=None, num_workers=1, worker_init_fn=board.begin)
    assert list(loader) == [[True]]


def test_a_sample_that_is_done_is_not_blamed() -> None:
    board = WorkerBoard(0)
    data = WatchedDataset(Batches(Samples(99, refuse), board), board)
    _ = data[0]
    assert board.now() is None
    opened = board.opening(Samples(99, refuse), [5, 6])
    next(opened)
    assert board.now() == 5
    next(opened)
    assert board.now() == 6


@pytest.mark.parametrize(
    "error",
    [
        DataError("cut.", file="a.jsonl", line=3, field="images[0]", fix="Mend it.", code="c"),
        StoppedError("stopped after step 3.", exit_code=143),
    ],
)
def test_errors_travel_between_processes(error: Exception) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


@linux
def test_a_line_that_breaks_before_torch_knows_is_explained() -> None:
    """A tensor is fetched from its worker; that the worker is dead is known a moment later."""
    board = WorkerBoard(1)
    board.on(9)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1.5)"])
    board._pids[0] = child.pid

    def torchs(signum: int, frame: object) -> None:
        raise RuntimeError(f"DataLoader worker (pid {child.pid}) is killed by signal: Killed. ")

    before = signal.signal(signal.SIGCHLD, torchs)
    try:
        explained = board.explain(ConnectionResetError("Connection reset by peer"), origin_of)
    finally:
        signal.signal(signal.SIGCHLD, before)
        child.wait(10)
    assert explained is not None
    assert explained.line == 10


def test_a_file_that_is_missing_is_no_dead_worker() -> None:
    assert WorkerBoard(1).explain(FileNotFoundError("a.jpg"), origin_of) is None


@linux
@pytest.mark.parametrize("is_waited_for", [False, True])
@pytest.mark.parametrize(
    ("act", "how"),
    [("os._exit(7)", "ended by itself"), ("os.kill(os.getpid(), 9)", "was killed by SIGKILL")],
)
def test_a_line_that_breaks_is_explained_where_torch_was_not_heard(
    act: str, how: str, is_waited_for: bool
) -> None:
    """Its handler raises once, wherever Python is; from a callback of the collector it is lost."""
    board = WorkerBoard(1)
    board.on(9)
    child = subprocess.Popen([sys.executable, "-c", f"import os; {act}"])
    board._pids[0] = child.pid
    if is_waited_for:
        child.wait(10)
    explained = board.explain(ConnectionResetError("Connection reset by peer"), origin_of)
    assert explained is not None
    assert explained.line == 10
    assert ("ended by itself" if is_waited_for else how) in str(explained)
    assert child.wait(10) in (7, -9)


@linux
@pytest.mark.parametrize("is_told_to_end", [False, True])
def test_a_fault_of_files_is_not_blamed_on_workers_that_are_done(is_told_to_end: bool) -> None:
    board = WorkerBoard(1)
    child = subprocess.Popen([sys.executable, "-c", ""])
    board._pids[0] = child.pid
    child.wait(10)
    if is_told_to_end:
        board.on(3)
        board.clear()
    assert board.explain(OSError("no space left"), origin_of) is None
