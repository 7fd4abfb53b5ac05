"""Processes that read data do not look through what was there, and leave the rest as it is."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from sightline.data.index import pool


class _Cycle:
    def __init__(self) -> None:
        self.itself = self


def _work(state: Any, task: int) -> list[int]:
    """Which generations are searched while a task makes much that stays and much that goes."""
    searched: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            searched.append(info["generation"])

    gc.callbacks.append(note)
    try:
        kept = []
        for number in range(200_000):
            _Cycle()
            kept.append([number])
    finally:
        gc.callbacks.remove(note)
    return searched


def test_young_garbage_is_searched_for_and_all_objects_are_not() -> None:
    before = gc.get_threshold()
    # Whoever starts the tests may have set it otherwise.
    gc.set_threshold(700, 10, 10)
    gc.unfreeze()
    try:
        assert 2 in _work(None, 0)
        [(_, searched)] = pool.run_all(_work, None, [0], num_processes=1)
        assert set(searched) == {0, 1}
        assert gc.get_threshold() == (700, 10, 10)
    finally:
        gc.set_threshold(*before)
        gc.freeze()


def test_a_task_that_fails_puts_the_search_back() -> None:
    def fails(state: Any, task: int) -> None:
        raise OSError("no such thing")

    before = gc.get_threshold()
    with pytest.raises(OSError, match="no such thing"):
        list(pool.run_all(fails, None, [0], num_processes=1))
    assert gc.get_threshold() == before
