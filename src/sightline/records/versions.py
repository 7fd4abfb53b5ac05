"""Versions of what a run was made with, read without importing any of it."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = (
    "sightline",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "torchvision",
    "pillow",
    "simplejpeg",
    "av",
)


def collect_versions() -> dict[str, str]:
    """Version of Python and of every package that can change a result."""
    return {"python": platform.python_version(), **{one: _version_of(one) for one in _PACKAGES}}


@cache
def _version_of(package: str) -> str:
    # Each is looked for in every folder of sys.path; what is imported does not change any more.
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
