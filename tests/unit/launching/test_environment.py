"""What a process learns from its environment, and a port that is its own."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from sightline.errors import RunError
from sightline.launching import is_launched, is_ours, rank_of, refuse_shared_gpus, without_ranks
from sightline.launching.environment import ReservedPort, environment_of


def environment(num: int, rank: int = 0, **base: str) -> dict[str, str]:
    return environment_of(rank, num, port=2345, error_file=Path("e.json"), base=base)


def test_ranks_meet_at_the_port() -> None:
    given = environment(4, rank=3)
    assert (given["MASTER_ADDR"], given["MASTER_PORT"]) == ("127.0.0.1", "2345")
    assert (given["RANK"], given["LOCAL_RANK"]) == ("3", "3")
    assert (given["WORLD_SIZE"], given["LOCAL_WORLD_SIZE"]) == ("4", "4")
    assert rank_of(given) == 3
    assert is_launched(given)
    assert is_ours(given)


def test_cores_are_shared_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sightline.launching.environment._num_cores", lambda: 8)
    assert environment(2)["OMP_NUM_THREADS"] == "4"
    assert environment(3)["OMP_NUM_THREADS"] == "2"
    assert environment(16)["OMP_NUM_THREADS"] == "1"
    assert environment(2, OMP_NUM_THREADS="7")["OMP_NUM_THREADS"] == "7"
    assert "OMP_NUM_THREADS" not in environment(1)


def test_what_another_launcher_said_is_not_passed_on() -> None:
    torchruns = {"RANK": "5", "TORCHELASTIC_RUN_ID": "x", "MASTER_ADDR": "far", "HOME": "/h"}
    assert without_ranks(torchruns) == {"HOME": "/h"}
    given = environment(1, **torchruns)
    assert "RANK" not in given
    assert "TORCHELASTIC_RUN_ID" not in given
    assert given["HOME"] == "/h"


def test_a_process_that_nobody_launched_is_alone() -> None:
    assert not is_launched({})
    assert rank_of({}) == 0
    assert is_launched({"RANK": "0"})
    assert not is_ours({"RANK": "0"})


@pytest.mark.parametrize("num_gpus", [0, 2, 8])
def test_gpus_that_are_enough_or_none(num_gpus: int) -> None:
    refuse_shared_gpus({"WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "2"}, num_gpus)


def test_fewer_gpus_than_processes_are_refused_with_both_numbers() -> None:
    with pytest.raises(RunError, match=r"4 processes were started on this machine.* it has 3 GPUs"):
        refuse_shared_gpus({"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}, 3)


@pytest.mark.skipif(sys.platform != "linux", reason="the rules of Linux")
def test_a_port_that_is_held_is_for_those_who_name_it() -> None:
    port = ReservedPort()
    try:
        with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
            stranger.bind(("127.0.0.1", port.number))
        with socket.socket(socket.AF_INET6) as store:
            # As torch's store does it.
            store.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            store.bind(("::", port.number))
            store.listen()
            with socket.create_connection(("127.0.0.1", port.number), timeout=5):
                pass
    finally:
        port.close()
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", port.number))
