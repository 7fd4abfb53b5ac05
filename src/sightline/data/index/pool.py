"""Work on all cores: a function over tasks, results in the order of the tasks."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from sightline.errors import RunError

Task = TypeVar("Task")
Result = TypeVar("Result")

_state: Any = None


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# Collections of the middle generation before a full one.
_NEVER = 1_000_000


def run_all(
    work: Callable[[Any, Task], Result],
    state: Any,
    tasks: Iterable[Task],
    *,
    num_processes: int,
) -> Iterator[tuple[Task, Result]]:
    """Results of ``work(state, task)`` for every task, in order.

    Tasks are taken from their iterator only as fast as they are worked on, so that memory does not
    grow with their number.

    Args:
        work: A function of a module.
        state: What all tasks need; handed to each process once.
        tasks: The tasks.
        num_processes: 1 to work in this process.

    Raises:
        RunError: A process ended by itself, for example for lack of memory.
    """
    if num_processes <= 1:
        for task in tasks:
            with _no_old_garbage():
                result = work(state, task)
            yield task, result
        return
    # A child that is forked has the tokenizer already; where forking is not safe it is pickled.
    method = "fork" if sys.platform == "linux" else "spawn"
    pool = ProcessPoolExecutor(
        num_processes,
        mp_context=multiprocessing.get_context(method),
        initializer=_start,
        initargs=(state,),
    )
    waiting: deque[tuple[Task, Future[Result]]] = deque()
    try:
        for task in tasks:
            waiting.append((task, pool.submit(_call, work, task)))
            if len(waiting) >= 3 * num_processes:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    except BrokenProcessPool as error:
        raise RunError(
            "a process that reads the data ended by itself, most often for lack of memory.\n"
            "Start again: what is done is kept. Set data.processes lower if it happens again."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _no_old_garbage() -> Iterator[None]:
    """Leave what is there already out of the search for garbage.

    A full search goes through all objects, and torch and transformers have hundreds of thousands;
    with rows coming and going, it took a fifth of the time. The young are looked through as ever.
    """
    young, middle, old = gc.get_threshold()
    gc.set_threshold(young, middle, _NEVER)
    try:
        yield
    finally:
        gc.set_threshold(young, middle, old)


def _start(state: Any) -> None:
    global _state
    _state = state
    gc.freeze()


def _call(work: Callable[[Any, Task], Result], task: Task) -> Result:
    return work(_state, task)
