"""Environments of other tools: what `make peers` makes, or others that are named.

Each has the packages of a file in ``benchmarks/peers`` and lies in ``.peers`` of the checkout.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_ROOM = _HERE.parent / ".peers"


def add_peers(parser: argparse.ArgumentParser, *names: str) -> None:
    """Give a program an option for each: the Python of its environment, or None where none is.

    Args:
        parser: The program's.
        *names: What the files in ``benchmarks/peers`` are called.
    """
    for name in names:
        assert (_HERE / "peers" / f"{name}.txt").is_file(), name
        python = _ROOM / name / "bin" / "python"
        parser.add_argument(
            f"--{name}",
            metavar="PYTHON",
            # Not resolved: the Python of an environment is often a link out of it.
            type=os.path.abspath,
            default=str(python) if python.exists() else None,
            help="Python of an environment that has it; as `make peers` made it if none",
        )


def not_measured(name: str) -> str:
    """What is said of one that is not there."""
    return f"{name}: not measured; `make peers` makes an environment, or name its Python"
