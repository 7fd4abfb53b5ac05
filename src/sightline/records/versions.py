"""Versions of what a run was made with, read without importing any of it."""

from __future__ import annotations

import platform
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
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found
