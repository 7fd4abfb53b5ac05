"""Start-up: commands that only help, and the first step of the first experiment."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from statistics import median

from training_step import watched
from training_tools import run_command
from training_work import Outcome, draw_pictures

ROUNDS = 3


def startup(work: Path, lf: str | None, swift: str | None, trl: str | None) -> Outcome:
    """Print the tables."""
    commands = {"sightline --help": [sys.executable, "-m", "sightline", "--help"]}
    for python, name, words in (
        (lf, "llamafactory-cli", "help"),
        (swift, "swift", "sft --help"),
        (trl, "trl", "sft --help"),
    ):
        if python:
            command = [str(Path(python).parent / name), *words.split()]
            commands[f"{name} {words}"] = command
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            taken[name].append(run_command(command, work / "startup").seconds)
    print("\nhelp                               seconds")
    for name, seconds in taken.items():
        print(f"{name:<32}{median(seconds):>10.2f}")
    outcome = Outcome()
    outcome.at_most("sightline --help, s", median(taken["sightline --help"]), 0.2)
    found = [_first_step(work) for _ in range(ROUNDS)]
    imports = median(one["imports"] for one in found)
    first = median(one["first"] for one in found)
    print(f"\nfirst experiment: torch and transformers are there after {imports:.2f} s")
    outcome.at_most("its first step after that, s", first, 3.0)
    return outcome


def _first_step(work: Path) -> dict[str, float]:
    """The first experiment's data and settings, as `sightline demo` has them."""
    folder = work / "first"
    shutil.rmtree(folder, ignore_errors=True)
    draw_pictures(folder, 4, 224, 224)
    config = {
        "model": "tiny:qwen2_5_vl",
        "data": {"train": str(folder / "train.jsonl")},
        "tuning": {
            "language": "lora",
            "projector": {"mode": "full", "learning_rate": 3.0e-4},
            "vision": "freeze",
            "head": "lora",
            "lora": {"rank": 16, "alpha": 192},
        },
        "training": {
            "epochs": 1,
            "learning_rate": 4.0e-3,
            "scheduler": "linear",
            "batch_size": 1,
            "gradient_accumulation": 1,
            "gradient_checkpointing": False,
            "precision": "fp32",
        },
        "output": str(folder / "run"),
    }
    return watched("first", config, folder)
