"""Training: Sightline beside bare loops and other tools, on the same model, data and settings.

``python benchmarks/training.py [PART ...] [--llamafactory PYTHON] [--swift PYTHON] [--trl PYTHON]``

LLaMA-Factory, ms-swift and TRL train in environments of their own: those of `make peers`, or others
whose Python an option names. Where there is none they are left out. Parts, all of them where none
is named:

- ``small`` and ``large``: 64 pictures with boxes, a tiny model and one of 107 million weights;
- ``lengths``: lengths as they are in the wild, packed and padded;
- ``processes``: two processes beside one;
- ``startup``: commands that only help, and the first step of the first experiment;
- ``step``: where the time of a step goes, and how it grows.

Everything is made on the spot. Everyone is a process of its own with one thread (OMP_NUM_THREADS
1), they take turns, and medians count. Ends with 1 where Sightline is not as fast as it should be.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from environments import add_peers, not_measured
from training_lengths import lengths
from training_processes import processes
from training_startup import startup
from training_step import step
from training_tools import (
    PEERS,
    Command,
    Trained,
    end_with_children,
    loop,
    own_memory,
    sightline,
    turn,
    versions_of,
)
from training_work import Job, Outcome, draw_pictures

NUM_PICTURES = 64
SIDE = 392
SIGHTLINE, LEAN = "Sightline", "lean loop"


class Bar(NamedTuple):
    """What Sightline should reach against one contender; None where nothing is asked.

    Attributes:
        training: Most of its training's seconds, as a share of the contender's.
        whole: Least ratio of the contender's whole command to its own.
        memory: Most memory, as a share of the contender's.
    """

    training: float | None = None
    whole: float | None = None
    memory: float | None = None


BARS = {
    "small": {
        LEAN: Bar(training=1.1),
        "LLaMA-Factory": Bar(whole=2.5, memory=0.5),
        "ms-swift": Bar(whole=2.0),
    },
    "large": {
        LEAN: Bar(training=1.1),
        "LLaMA-Factory": Bar(whole=1.7, memory=0.65),
        "ms-swift": Bar(whole=1.3),
    },
}


def beside_others(name: str, given: argparse.Namespace, work: Path) -> Outcome:
    """The table of one model; how many bars are missed."""
    job = Job(
        work=work,
        model=made_model(work, name),
        data=made_pictures(work),
        samples=NUM_PICTURES,
        epochs=given.epochs,
    )
    peers = [make(getattr(given, key)) for key, make in PEERS.items() if getattr(given, key)]
    # TRL last: it takes as long as all others together.
    contenders = [loop("lean"), sightline(), *([] if given.no_plain else [loop("plain")]), *peers]
    results: dict[str, list[tuple[Trained, Command]]] = {one.name: [] for one in contenders}
    for number in range(given.rounds):
        for contender in contenders:
            # The ratio to the lean loop is near 1: it needs more turns than the others.
            if number == 0 or given.all_rounds or contender.name in (SIGHTLINE, LEAN):
                results[contender.name].append(turn(contender, job))
    print(f"\n{name}: {job.num_steps} steps of {job.batch} pictures", flush=True)
    missed = table(results, BARS[name])
    for contender in contenders:
        print(f"{contender.name}: {versions_of(contender)}")
    for key in PEERS:
        if not getattr(given, key):
            print(not_measured(key))
    sizes = {trained.trained for turns in results.values() for trained, _ in turns}
    print(f"numbers that train: {', '.join(f'{size:,}' for size in sorted(filter(None, sizes)))}")
    return missed


def table(results: dict[str, list[tuple[Trained, Command]]], bars: dict[str, Bar]) -> Outcome:
    """Print the rows and the bars."""
    print("               training       own   command       own    peak       own   mean")
    print("                      s  is x its         s  is x its      GB  is x its   loss")
    figures = {name: Figures.of(turns) for name, turns in results.items()}
    own = figures[SIGHTLINE]
    for name, one in figures.items():
        whole = f"{one.whole:>9.1f} {own.whole / one.whole:>9.2f}"
        print(
            f"{name:<15}{one.training:>8.1f} {own.training / one.training:>9.2f}"
            f"{whole} {one.peak / 1e9:>7.2f} {own.peak / one.peak:>9.2f} {one.loss:>6.2f}"
        )
    outcome = Outcome()
    for name, bar in bars.items():
        if name not in figures:
            continue
        one = figures[name]
        if bar.training:
            outcome.at_most(
                f"training over that of {name}", own.training / one.training, bar.training
            )
        if bar.whole:
            outcome.at_least(f"command: {name} over Sightline", one.whole / own.whole, bar.whole)
        if bar.memory:
            outcome.at_most(f"memory over that of {name}", own.peak / one.peak, bar.memory)
    return outcome


class Figures(NamedTuple):
    """Medians of a contender: seconds, seconds, bytes, and the mean loss of its first turn."""

    training: float
    whole: float
    peak: float
    loss: float

    @classmethod
    def of(cls, turns: list[tuple[Trained, Command]]) -> Figures:
        """Of its turns."""
        return cls(
            median(trained.seconds for trained, _ in turns),
            median(command.seconds for _, command in turns),
            median(command.peak for _, command in turns),
            turns[0][0].loss,
        )


def made_model(work: Path, name: str) -> Path:
    """The checkpoint of that name, made on first use, in a process: this one stays small."""
    folder = work / f"model-{name}"
    if not folder.is_dir():
        script = str(Path(__file__).parent / "training_work.py")
        subprocess.run([sys.executable, script, str(folder), name], check=True, capture_output=True)
    return folder


def made_pictures(work: Path) -> Path:
    """The rows of ``small`` and ``large``, made on first use."""
    folder = work / "shapes"
    return folder if folder.is_dir() else draw_pictures(folder, NUM_PICTURES, SIDE, SIDE)


PARTS: dict[str, Any] = {
    "small": lambda given, work: beside_others("small", given, work),
    "large": lambda given, work: beside_others("large", given, work),
    "lengths": lambda given, work: lengths(work, made_model(work, "large"), given.llamafactory),
    "processes": lambda given, work: processes(
        work, made_model(work, "large"), made_pictures(work)
    ),
    "startup": lambda given, work: startup(work, given.llamafactory, given.swift, given.trl),
    "step": lambda given, work: step(work, made_model(work, "large")),
}


def main() -> None:
    """Print the tables of the parts."""
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    add_peers(parser, *PEERS)
    parser.add_argument("--no-peers", action="store_true", help="leave other tools out")
    parser.add_argument("--epochs", type=int, default=2, help="of small and large")
    parser.add_argument("--rounds", type=int, default=3, help="of Sightline and the lean loop")
    parser.add_argument("--all-rounds", action="store_true", help="of the others, too, not one")
    parser.add_argument("--no-plain", action="store_true", help="leave the plain loop out")
    parser.add_argument("--work", type=Path, help="keep what is made here")
    given = parser.parse_args()
    if given.no_peers:
        vars(given).update(dict.fromkeys(PEERS))
    unknown = [part for part in given.parts if part not in PARTS]
    if unknown:
        parser.error(f"{unknown[0]}: parts are {', '.join(PARTS)}")
    # A process that a large one starts is never told to be smaller than that one was.
    assert own_memory() < 200e6, "this process has loaded what its children should"
    end_with_children()
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        work = given.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        for part in given.parts or PARTS:
            outcome = PARTS[part](given, work.resolve())
            missed += outcome.missed
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
