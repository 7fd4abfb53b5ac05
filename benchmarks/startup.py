"""Start-up: how long a person waits before a command says something.

Run by ``make bench``. Every command is a process of its own; the fastest of several counts.
"""

from __future__ import annotations

import subprocess
import sys
import time

REPEATS = 5

COMMANDS = {
    "python": ["-c", "pass"],
    "import torch": ["-c", "import torch"],
    "sightline --help": ["-m", "sightline", "--help"],
    "sightline config --explain": ["-m", "sightline", "config", "--explain"],
}


def seconds(arguments: list[str]) -> float:
    """The fastest of several runs."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Print one line a command."""
    for name, arguments in COMMANDS.items():
        print(f"{name:<28} {seconds(arguments):>6.2f} s")


if __name__ == "__main__":
    main()
