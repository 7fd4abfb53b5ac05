"""What a process of a run learns from its environment: torchrun's variables, and one of ours."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

from sightline.errors import RunError

ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
"""Where a process writes what it failed of. torchrun sets and reads it, too."""

_LAUNCHER = "SIGHTLINE_LAUNCHER"
_OF_A_RANK = frozenset(
    [
        "RANK",
        "WORLD_SIZE",
        "LOCAL_RANK",
        "LOCAL_WORLD_SIZE",
        "GROUP_RANK",
        "GROUP_WORLD_SIZE",
        "ROLE_NAME",
        "ROLE_RANK",
        "ROLE_WORLD_SIZE",
        "MASTER_ADDR",
        "MASTER_PORT",
        _LAUNCHER,
    ]
)
_LOOPBACK = "127.0.0.1"


class ReservedPort:
    """A port of this machine that nobody else is given, until it is closed.

    The socket is bound, but does not listen: only a program that names the port can listen on it,
    as the first rank does. Systems hand out neither to those that ask for any.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((_LOOPBACK, 0))
        self.number: int = self._socket.getsockname()[1]

    def close(self) -> None:
        """Give it back."""
        self._socket.close()


def environment_of(
    rank: int, num_processes: int, *, port: int, error_file: Path, base: Mapping[str, str]
) -> dict[str, str]:
    """The environment of one process.

    Args:
        rank: Its number, from 0.
        num_processes: How many there are. One alone is told of no ranks: it trains as ever.
        port: Where the first one waits for the others.
        error_file: Where it writes what it failed of.
        base: What it gets besides.
    """
    own = {**without_ranks(base), _LAUNCHER: str(os.getpid()), ERROR_FILE: str(error_file)}
    if num_processes == 1:
        return own
    own |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(num_processes),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(num_processes),
        "MASTER_ADDR": _LOOPBACK,
        "MASTER_PORT": str(port),
    }
    # By default every process takes all cores, and they wait for each other.
    own.setdefault("OMP_NUM_THREADS", str(max(1, _num_cores() // num_processes)))
    if (loopback := _loopback_interface()) is not None:
        # Gloo takes the interface of the machine's name, which may lead nowhere.
        own.setdefault("GLOO_SOCKET_IFNAME", loopback)
    return own


def without_ranks(base: Mapping[str, str]) -> dict[str, str]:
    """An environment for a process that is none of the run's, such as that of the verification."""
    return {
        name: value
        for name, value in base.items()
        if name not in _OF_A_RANK and not name.startswith("TORCHELASTIC_")
    }


def is_launched(environment: Mapping[str, str]) -> bool:
    """Whether a launcher started this process, as one of several or alone."""
    return "RANK" in environment or is_ours(environment)


def is_ours(environment: Mapping[str, str]) -> bool:
    """Whether the launcher is that of ``sightline train --processes``."""
    return _LAUNCHER in environment


def rank_of(environment: Mapping[str, str]) -> int:
    """Number of this process among all of the run, from 0."""
    return int(environment.get("RANK", "0"))


def refuse_shared_gpus(environment: Mapping[str, str], num_gpus: int) -> None:
    """Refuse more processes than GPUs: each needs one of its own.

    Args:
        environment: Of this process.
        num_gpus: GPUs that it sees; 0 where it trains on the CPU.

    Raises:
        RunError: There are too few.
    """
    num_processes = int(environment.get("LOCAL_WORLD_SIZE", environment.get("WORLD_SIZE", "1")))
    if 0 < num_gpus < num_processes:
        raise RunError(
            f"{num_processes} processes were started on this machine, and it has {num_gpus} GPUs "
            f"that they may use.\nStart {num_gpus}, or set CUDA_VISIBLE_DEVICES to more GPUs; to "
            "nothing, to train on the CPU."
        )


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _loopback_interface() -> str | None:
    names = {name for _, name in socket.if_nameindex()}
    return next((name for name in ("lo", "lo0") if name in names), None)
