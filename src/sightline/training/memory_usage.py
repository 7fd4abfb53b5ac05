"""What a process holds of the memory that it trains in, and errors that are the end of it."""

from __future__ import annotations

import errno
import os
import re
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from sightline.errors import SightlineError

Kind = Literal["gpu", "cpu"]

_GIB = 2**30
_ON_GPU = re.compile(
    r"CUDA out of memory|cudaErrorMemoryAllocation|(CUBLAS|CUDNN|CUSOLVER)_STATUS_ALLOC_FAILED",
)
_ON_CPU = re.compile(r"can't allocate memory|not enough memory|Cannot allocate memory|bad_alloc")
_WANTED = re.compile(r"[Tt]ried to allocate ([\d.]+) (bytes|KiB|MiB|GiB)")
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
# Of what fits by proportion: fragments and the rest of the pass take more.
_SAFE_SHARE = 0.85


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Memory of a device, in bytes; None where it is not known.

    Attributes:
        place: The device in words.
        in_use: What this process holds.
        limit: What it may hold.
        wanted: What it asked for in vain.
        resting: What it held before the step.
    """

    place: str
    in_use: int | None = None
    limit: int | None = None
    wanted: int | None = None
    resting: int | None = None

    @property
    def share_that_fits(self) -> float | None:
        """How much of the batch would fit, as far as is known: what it takes grows with it.

        The pass was not at its end, so that it is rather less.
        """
        if None in (self.in_use, self.limit, self.wanted, self.resting):
            return None
        assert self.in_use is not None
        assert self.limit is not None
        assert self.wanted is not None
        assert self.resting is not None
        needed = self.in_use + self.wanted - self.resting
        room = self.limit - self.resting
        if needed <= 0 or not 0 < room < needed:
            return None
        return _SAFE_SHARE * room / needed


def memory_kind(error: BaseException) -> Kind | None:
    """Which memory an error is the end of; None where it is another error."""
    if isinstance(error, SightlineError):
        return None
    if isinstance(error, torch.OutOfMemoryError):
        return "gpu"
    if isinstance(error, MemoryError):
        return "cpu"
    if isinstance(error, OSError):
        return "cpu" if error.errno == errno.ENOMEM else None
    if isinstance(error, RuntimeError):
        text = str(error)
        return "gpu" if _ON_GPU.search(text) else "cpu" if _ON_CPU.search(text) else None
    return None


def usage_of(kind: Kind, text: str) -> Usage:
    """The state of a memory that has ended.

    Args:
        kind: Which.
        text: The error's message.
    """
    found = _WANTED.search(text)
    wanted = None if found is None else int(float(found[1]) * _UNITS[found[2]])
    if kind == "gpu" and torch.cuda.is_available():
        device = torch.cuda.current_device()
        free, total = torch.cuda.mem_get_info(device)
        in_use = torch.cuda.memory_allocated(device)
        # Other processes, and what this one holds outside of torch, are not to be had.
        limit = free + torch.cuda.memory_reserved(device)
        name = f"{torch.cuda.get_device_name(device)} ({total / _GIB:.1f} GiB)"
        return Usage(place=name, in_use=in_use, limit=limit, wanted=wanted)
    place = "the GPU" if kind == "gpu" else "this machine"
    if kind == "gpu":
        return Usage(place=place, wanted=wanted)
    in_use, limit = _host_memory()
    return Usage(place=place, in_use=in_use, limit=limit, wanted=wanted)


def bytes_in_use() -> int | None:
    """What this process holds of the memory that it trains in; None where it is not known."""
    if torch.cuda.is_available():
        return torch.cuda.memory_allocated()
    return _host_memory()[0]


def size_text(num_bytes: int) -> str:
    """A number of bytes for people."""
    if num_bytes < _GIB / 10:
        return f"{num_bytes / 2**20:.1f} MiB"
    return f"{num_bytes / _GIB:.1f} GiB"


def _host_memory() -> tuple[int | None, int | None]:
    """What this process holds, and what it may hold at most."""
    try:
        mapped, resident = Path("/proc/self/statm").read_text(encoding="ascii").split()[:2]
    except OSError:
        return None, None
    page = os.sysconf("SC_PAGE_SIZE")
    addresses, _ = resource.getrlimit(resource.RLIMIT_AS)
    if addresses != resource.RLIM_INFINITY:
        return int(mapped) * page, addresses
    most = os.sysconf("SC_PHYS_PAGES") * page
    group = Path("/sys/fs/cgroup/memory.max")
    text = group.read_text(encoding="ascii").strip() if group.is_file() else ""
    return int(resident) * page, min(most, int(text)) if text.isdigit() else most
