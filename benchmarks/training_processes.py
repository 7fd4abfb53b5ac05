"""Two processes beside one: the same rows, the same steps, one thread each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from statistics import median

from training_tools import Contender, sightline, turn
from training_work import Job, Outcome

BATCH = 4
ROUNDS = 3


def processes(work: Path, model: Path, data: Path) -> Outcome:
    """Print the table."""
    asked = [sys.executable, "-m", "sightline", "train", "--help"]
    helped = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    outcome = Outcome()
    print("\nprocesses, LoRA, the same steps      training  command    peak of one   mean loss")
    if "--processes" not in helped:
        print("not measured: sightline train has no --processes")
        return outcome
    # A step is of as many rows, whoever computes it.
    job = Job(work=work, model=model, data=data, samples=64, epochs=1, batch=BATCH)
    contenders: dict[int, Contender] = {
        1: sightline("one process", batch_size=BATCH),
        2: sightline("two processes", "--processes", "2", batch_size=BATCH // 2),
    }
    found = {count: [] for count in contenders}
    for _ in range(ROUNDS):
        for count, contender in contenders.items():
            found[count].append(turn(contender, job))
    seconds = {}
    for count, turns in found.items():
        seconds[count] = median(trained.seconds for trained, _ in turns)
        whole = median(command.seconds for _, command in turns)
        peak = median(command.peak for _, command in turns)
        print(
            f"{contenders[count].name:<34}{seconds[count]:>9.1f} s {whole:>6.1f} s "
            f"{peak / 1e9:>10.2f} GB {turns[0][0].loss:>11.4f}"
        )
    outcome.at_least("two processes over one, a wall second", seconds[1] / seconds[2], 1.7)
    return outcome
