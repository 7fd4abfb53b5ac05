"""What a bug report has to say of a machine: versions and settings, and nothing that is secret."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

from sightline.records.secrets import without_secrets
from sightline.records.versions import collect_versions

# Settings of the libraries beneath that change what a run does or how fast.
_SETTINGS = re.compile(
    r"(CUDA|NCCL|GLOO|TORCH|TORCHINDUCTOR|PYTORCH|HF|TRANSFORMERS|TOKENIZERS|DATASETS|ACCELERATE"
    r"|FSDP|DEEPSPEED|RAY|OMP|MKL|KMP|OPENBLAS|SIGHTLINE|BITSANDBYTES|WANDB_MODE|WANDB_DISABLED)"
    r"(_[A-Z0-9_]+)?"
)
_SECRET = re.compile(r"TOKEN(?!IZERS)|KEY|SECRET|PASSW|CREDENTIAL|AUTH|COOKIE")
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def environment_record() -> dict[str, Any]:
    """Versions, system and settings, as JSON.

    Returns:
        ``versions``: of Python and all that Sightline needs or can use, ``absent`` where it is not
        there; ``system``; ``num_cores``: that this process may use; ``settings``: environment
        variables by name, secrets left out.
    """
    return {
        "versions": _versions(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "num_cores": _num_cores(),
        "settings": {
            name: without_secrets(value)
            for name, value in sorted(os.environ.items())
            if _SETTINGS.fullmatch(name) and not _SECRET.search(name)
        },
    }


def _versions() -> dict[str, str]:
    found = collect_versions()
    for line in requires("sightline") or []:
        name = _NAME.match(line)
        # What the tests and the house need is no part of what a user runs.
        if name is None or re.search(r"extra == .(dev|test)", line):
            continue
        package = name.group().lower()
        if package not in found and package != "sightline":
            found[package] = _version(package)
    return found


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
