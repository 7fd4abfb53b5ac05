"""Start-up: how long a person waits before a command says something.

Run by ``make bench``. Every command is a process of its own; medians count.
"""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

REPEATS = 5

COMMANDS = {
    "python": ["-c", "pass"],
    "import torch": ["-c", "import torch"],
    "sightline --help": ["-m", "sightline", "--help"],
    "sightline config --explain": ["-m", "sightline", "config", "--explain"],
}


def seconds() -> dict[str, float]:
    """Median of every command, the commands taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(REPEATS):
        for name, arguments in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            times[name].append(time.perf_counter() - start)
    return {name: median(taken) for name, taken in times.items()}


def main() -> None:
    """Print one line a command."""
    for name, taken in seconds().items():
        print(f"{name:<28} {taken:>6.2f} s")


if __name__ == "__main__":
    main()
