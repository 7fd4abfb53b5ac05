"""Processes that load data: what fails in one of them names its sample.

torch raises what a worker raised as text, a wall of traceback in a message; here the error itself
travels. And where a worker dies, torch knows its process id and nothing else; here every worker
writes the number of a sample into memory that all share, before it opens it.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import re
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from torch.utils.data import Dataset, get_worker_info

from sightline.data.conversation import Origin
from sightline.errors import DataError, SightlineError

Loaded = TypeVar("Loaded")
OriginOf = Callable[[int], Origin]

_NONE = -1
# What torch says of a worker that has gone: by itself, by a signal, and how it was noticed.
_GONE = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)")
_SIGNAL = re.compile(r"is killed by signal: ([^.]+)\.")
_EXIT = re.compile(r"exited unexpectedly with exit code (\d+)")
# A worker whose end of a line is closed is dying, which takes seconds where the machine is busy;
# another fault of files need not be a worker's.
_SECONDS_TO_DIE, _SECONDS_TO_WONDER = 20.0, 1.0


class WorkerBoard:
    """Which sample every worker is on.

    Args:
        num_workers: Processes that load; 0 where the run's own process does.
    """

    def __init__(self, num_workers: int) -> None:
        self._num_workers = num_workers
        # Without locks: a worker that dies with one in its hand would stop the others.
        self._samples = multiprocessing.RawArray("q", [_NONE] * max(1, num_workers))
        self._pids = multiprocessing.RawArray("q", [0] * max(1, num_workers))

    def begin(self, worker: int) -> None:
        """The ``worker_init_fn`` of a loader.

        Args:
            worker: Its number, from 0.
        """
        # Ctrl-C goes to all processes of a terminal. The run's own ends the step and saves, and
        # needs the data of that step.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._pids[worker] = multiprocessing.current_process().pid or 0

    def on(self, sample: int) -> None:
        """The worker that calls is about to open a sample.

        Args:
            sample: Its number in the epoch's data.
        """
        self._samples[_this_worker()] = sample

    def off(self) -> None:
        """The worker that calls is done with its samples."""
        self._samples[_this_worker()] = _NONE

    def clear(self) -> None:
        """All workers were told to end, whatever they were on."""
        for worker in range(len(self._pids)):
            self._pids[worker], self._samples[worker] = 0, _NONE

    def now(self, worker: int | None = None) -> int | None:
        """The sample that a worker is on.

        Args:
            worker: Its number; None for the one that calls.
        """
        sample = self._samples[_this_worker() if worker is None else worker]
        return None if sample == _NONE else int(sample)

    def opening(self, samples: Sequence[Loaded], numbers: Iterable[int]) -> Iterator[Loaded]:
        """Samples one after the other, each written down before it is opened.

        What is done with one before the next is asked for, decoding above all, is its own.

        Args:
            samples: The conversations of an epoch.
            numbers: Which of them.
        """
        for number in numbers:
            self.on(number)
            yield samples[number]

    def explain(self, error: BaseException, origin_of: OriginOf) -> DataError | None:
        """What torch says of a worker that died, with the sample that it was on.

        Args:
            error: What the training ended with.
            origin_of: Says where a sample stands.

        Returns:
            The error to raise instead; None where no worker died.
        """
        texts = [str(one) for one in _chain(error) if isinstance(one, RuntimeError)]
        said = [text for text in texts if _GONE.search(text)]
        if not said and any(isinstance(one, OSError | EOFError) for one in _chain(error)):
            # A tensor is fetched from the worker that made it: if that is dead, the line is.
            is_line = any(isinstance(one, ConnectionError | EOFError) for one in _chain(error))
            said = self._late_words(_SECONDS_TO_DIE if is_line else _SECONDS_TO_WONDER)
        if not said:
            return None
        pids = {pid for text in said for pid in _pids_in(text)}
        gone = [worker for worker, pid in enumerate(self._pids) if pid in pids]
        how, advice = _manner(" ".join(said))
        on = [sample for worker in gone if (sample := self.now(worker)) is not None]
        if not on:
            what = f"a data worker {how}, between two samples."
            return DataError(what, fix=advice, code="worker.died")
        what = f"the data worker that read this sample {how}."
        if len(on) > 1:
            others = ", ".join(str(origin_of(sample)) for sample in on[1:])
            what += f" So did those that read {others}."
        return origin_of(on[0]).error(what, fix=advice, code="worker.died")

    def _late_words(self, seconds: float) -> list[str]:
        """What torch says of a worker that is dying at this moment, or would have said."""
        until = time.monotonic() + seconds
        seen: list[str] = []
        while not seen and time.monotonic() < until:
            seen = self._seen_dead()
            try:
                # Torch's handler of children that end raises wherever the process is. Once only:
                # where it was in a callback of the collector, nobody heard it.
                time.sleep(0.01)
            except RuntimeError as error:
                if _GONE.search(str(error)):
                    return [str(error)]
                raise
        return seen

    def _seen_dead(self) -> list[str]:
        """Workers that are on a sample and have ended, in torch's words."""
        words = []
        for worker, pid in enumerate(self._pids):
            if pid and self.now(worker) is not None and (how := _end_of(int(pid))):
                words.append(f"DataLoader worker (pid {pid}) {how}")
        return words


@dataclass(frozen=True, kw_only=True, slots=True)
class Carried:
    """An error on its way from a worker.

    Attributes:
        error: The error itself.
        sample: Number of the sample that the worker was on.
        trace: Where it was raised, as text; None where it did not leave its process.
    """

    error: Exception
    sample: int | None
    trace: str | None


class WatchedDataset(Dataset[Any]):
    """A data set whose errors come as values, for `received` to raise.

    Args:
        data: The data set. It tells the board which sample it opens.
        board: Where that stands.
    """

    def __init__(self, data: Dataset[Any], board: WorkerBoard) -> None:
        self._data = data
        self._board = board

    def __len__(self) -> int:
        data: Any = self._data
        return len(data)

    def __getitem__(self, key: Any) -> Any:
        try:
            loaded = self._data[key]
        except Exception as error:
            if get_worker_info() is None:
                return Carried(error=error, sample=self._board.now(), trace=None)
            trace = "".join(traceback.format_exception(error))
            return Carried(error=_portable(error), sample=self._board.now(), trace=trace)
        self._board.off()
        return loaded


def received(batches: Iterable[Any], origin_of: OriginOf) -> Iterator[Any]:
    """What a loader of a `WatchedDataset` gives; errors are raised here.

    An error that is nobody's to mend has the sample in its notes, and where it was raised.

    Args:
        batches: The loader.
        origin_of: Says where a sample stands.
    """
    for batch in batches:
        if not isinstance(batch, Carried):
            yield batch
            continue
        error = batch.error
        if not isinstance(error, SightlineError):
            if batch.sample is not None:
                error.add_note(f"while {origin_of(batch.sample)} was loaded")
            if batch.trace is not None:
                error.add_note(f"in a data worker:\n{batch.trace}")
        raise error


def _this_worker() -> int:
    worker = get_worker_info()
    return 0 if worker is None else worker.id


def _end_of(child: int) -> str | None:
    """How a child ended, in torch's words; None while it lives. It stays to be waited for."""
    if not hasattr(os, "waitid"):
        return None
    try:
        found = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        # It was waited for already.
        return "exited unexpectedly."
    if found is None:
        return None
    if found.si_code == os.CLD_EXITED:
        return f"exited unexpectedly with exit code {found.si_status}."
    return f"is killed by signal: {signal.strsignal(found.si_status)}."


def _portable(error: Exception) -> Exception:
    """The error, or one of the same text where it cannot travel."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        # Anything may come from making another's error again.
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _pids_in(text: str) -> set[int]:
    return {int(pid) for found in _GONE.finditer(text) for pid in found[1].split(",")}


def _manner(text: str) -> tuple[str, str]:
    """How a worker ended, and what to do about it."""
    names = {signal.strsignal(one): one for one in signal.valid_signals()}
    found = _SIGNAL.search(text)
    number = None if found is None else names.get(found[1].strip())
    if number is not None:
        name = signal.Signals(number).name
        if number == signal.SIGKILL:
            return (
                f"was killed by {name}, most often by the system for lack of memory",
                "Lower training.num_workers or data.images.max_pixels, and go on from the newest "
                "checkpoint.",
            )
        if number == signal.SIGBUS:
            return (
                f"was killed by {name}, most often because shared memory (/dev/shm) is full",
                "Give it more, docker run --shm-size for one, or set training.num_workers: 0.",
            )
        return (
            f"was killed by {name}: a library broke on it",
            "Take the sample out, or write its pictures and videos anew.",
        )
    exited = _EXIT.search(text)
    code = "" if exited is None else f" with exit code {exited[1]}"
    return (
        f"ended by itself{code}",
        "Set training.num_workers: 0 to see what it does in the run's own process.",
    )
