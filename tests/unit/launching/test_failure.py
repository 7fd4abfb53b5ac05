"""Which process failed first, from what is left of all of them."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from sightline.launching.error_file import ErrorRecord
from sightline.launching.failure import Death, first_of, told


def record(message: str, **others: Any) -> ErrorRecord:
    values: dict[str, Any] = {"kind": "crash", "trace": "", "exit_code": 1, "seconds": 100.0}
    return ErrorRecord(message=message, **{**values, **others})


def death(rank: int, **others: Any) -> Death:
    values: dict[str, Any] = {
        "exit_code": 1,
        "seconds": 100.0,
        "record": None,
        "tail": (),
        "log": None,
    }
    return Death(rank=rank, **{**values, **others})


COMPLAINTS = [
    "RuntimeError: [../gloo/transport/tcp/pair.cc:545] Read error: Connection reset by peer",
    "DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:3384, remote process exited",
    "DistNetworkError: Connection was likely closed. Did the remote server shutdown or crash?",
    "RuntimeError: Broken pipe",
    "RunError: process 1 of 2 ended this one: the disk is full",
    "RuntimeError: Timed out waiting 1800000ms for recv operation to complete",
]


@pytest.mark.parametrize("complaint", COMPLAINTS)
def test_a_complaint_is_never_first_even_where_it_is_older(complaint: str) -> None:
    survivor = death(0, record=record(complaint, seconds=99.0))
    killed = death(1, exit_code=-9, seconds=100.0)
    assert first_of([survivor, killed]) is killed


def test_one_that_the_watchdog_ended_is_not_first() -> None:
    watchdog = death(0, exit_code=-signal.SIGABRT, seconds=99.0)
    failed = death(1, record=record("ValueError: shapes", seconds=100.0))
    assert first_of([watchdog, failed]) is failed


def test_where_all_complain_the_oldest_is_told() -> None:
    deaths = [death(rank, record=record(COMPLAINTS[0], seconds=100.0 - rank)) for rank in (0, 1)]
    deaths[0] = death(0, record=record(COMPLAINTS[1], seconds=100.0))
    assert first_of(deaths).rank == 1


def test_an_error_is_as_old_as_when_it_was_raised() -> None:
    """Its process takes seconds to end: another that leaves at once is not first for that."""
    slow = death(1, seconds=105.0, record=record("ValueError: shapes", seconds=100.0))
    quick = death(0, exit_code=3, seconds=101.0)
    assert first_of([quick, slow]) is slow


def test_the_same_message_of_several_is_told_of_the_lowest() -> None:
    deaths = [
        death(rank, record=record("no such file", kind="user", exit_code=2, seconds=100.0 - rank))
        for rank in (0, 1, 2)
    ]
    assert first_of(deaths).rank == 0
    assert told(first_of(deaths), 3, None) == "no such file"
    assert told(deaths[2], 3, None) == "rank 2 of 3: no such file"


def test_exit_codes_are_those_of_shells() -> None:
    assert death(0, exit_code=-9).shell_code == 137
    assert death(0, exit_code=7).shell_code == 7
    assert death(0, exit_code=-9, record=record("x", exit_code=143)).shell_code == 143
    # It said what it failed of, and hangs at its end.
    assert death(0, exit_code=None, record=record("x", exit_code=2)).shell_code == 2


def test_only_the_end_of_a_trace_is_shown_where_there_is_a_log() -> None:
    trace = "\n".join(f"line {number}" for number in range(20))
    failed = death(1, record=record("ValueError: x", trace=trace))
    assert told(failed, 2, None).count("\n") == 20
    logged = death(1, record=record("ValueError: x", trace=trace), log=Path("logs/rank-1.log"))
    assert told(logged, 2, None).splitlines() == [
        "rank 1 of 2 ended with exit code 1: ValueError: x",
        *(f"  line {number}" for number in range(12, 20)),
        "All of it is in logs/rank-1.log",
    ]


def test_the_killer_for_lack_of_memory_is_named_where_it_struck() -> None:
    killed = death(0, exit_code=-9)
    assert "The system ended 1 of its processes meanwhile because memory ran out" in told(
        killed, 2, 1
    )
    for unknown in (None, 0):
        said = told(killed, 2, unknown)
        assert "Somebody ended it, or the system did because memory ran out." in said
        assert "meanwhile" not in said
    assert "memory" not in told(death(0, exit_code=-11), 2, 1)


def test_one_process_is_the_run() -> None:
    assert told(death(0, exit_code=-11), 1, None) == "the run was killed by SIGSEGV."
