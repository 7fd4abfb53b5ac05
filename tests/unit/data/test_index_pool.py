"""Processes that read data leave the search for garbage as they find it."""

from __future__ import annotations

import gc

import pytest

from sightline.data.index import pool


@pytest.mark.parametrize("is_frozen", [False, True])
def test_what_the_caller_left_out_of_the_search_for_garbage_stays_out(is_frozen: bool) -> None:
    before = gc.get_freeze_count()
    gc.unfreeze()
    try:
        if is_frozen:
            gc.freeze()
        with pool._no_old_garbage():
            assert gc.get_freeze_count() > 0
        assert (gc.get_freeze_count() > 0) is is_frozen
    finally:
        gc.unfreeze()
        if before:
            gc.freeze()
