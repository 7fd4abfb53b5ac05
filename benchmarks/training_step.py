"""Where the time of a step goes, how it grows, and where the time of the whole command goes."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from training_tools import HERE, run_command, sightline, sightline_config, turn
from training_work import Job, Outcome, draw_pictures

PARTS = (
    "data",
    "vision",
    "language",
    "head and loss",
    "backward",
    "clipping",
    "optimizer",
    "watching",
    "the Trainer",
)
WARM, STEPS = 1, 3
TEXT_LENGTHS = (250, 500, 1000, 2000)
PICTURES = (1, 2, 4, 8)
SIDE = 392
NUM_OF_DRAWN = 16
PROCESSES = (1, 2)
ROWS_OF_A_STEP = (2, 4, 8)
STEPS_OF_PROCESSES = 6


def step(work: Path, model: Path) -> Outcome:
    """Print the tables."""
    print("\na step, s            " + "".join(f"{part.split()[-1]:>10}" for part in PARTS), end="")
    print("       all")
    drawn = work / "drawn"
    if not drawn.is_dir():
        draw_pictures(drawn, NUM_OF_DRAWN, SIDE, SIDE)
    for words in TEXT_LENGTHS:
        rows = [_row(words, 1)] * (WARM + STEPS)
        _print(f"1 picture, {words} words", _spent(work, model, rows))
    for count in PICTURES:
        rows = [_row(100, count)] * (WARM + STEPS)
        _print(f"{count} picture{'s' * (count > 1)}, 100 words", _spent(work, model, rows))
    _processes(work, model)
    _command(work, model)
    return Outcome()


def _processes(work: Path, model: Path) -> None:
    """Seconds of a step by how many processes share its rows; saving and the like included."""
    print("\na step of rows with a picture and 250 words, s")
    print(
        f"{'':<12}" + "".join(f"{count:>5} process{'es'[: 2 * (count > 1)]}" for count in PROCESSES)
    )
    for num_rows in ROWS_OF_A_STEP:
        samples = num_rows * STEPS_OF_PROCESSES
        folder = _folder(work, [_row(250, 1)] * samples)
        job = Job(work=work, model=model, data=folder, samples=samples, epochs=1, batch=num_rows)
        print(f"{num_rows:>4} rows   ", end="")
        for count in PROCESSES:
            name = f"{count} of {num_rows}"
            trained, _ = turn(
                sightline(name, "--processes", str(count), batch_size=num_rows // count), job
            )
            print(f"{trained.seconds / STEPS_OF_PROCESSES:>14.2f}", end="", flush=True)
        print()


def _row(words: int, pictures: int) -> dict[str, Any]:
    """A row of which a sixth is answered."""
    said = words // 6
    asked = " circle" * (words - said)
    return {
        "messages": [
            {"role": "user", "content": "<image>" * pictures + asked},
            {"role": "assistant", "content": " square" * said},
        ],
        "images": [f"images/{number % NUM_OF_DRAWN:05}.png" for number in range(pictures)],
    }


def _spent(work: Path, model: Path, rows: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Median seconds of every part of a step of one row."""
    rows = list(rows)
    folder = _folder(work, rows)
    job = Job(work=work, model=model, data=folder, samples=len(rows), epochs=1, batch=1)
    said = watched("parts", sightline_config(job, folder), folder)
    counted = said["steps"][WARM:]
    return {part: median(one.get(part, 0.0) for one in counted) for part in PARTS}


def _folder(work: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """A folder of these rows and the pictures."""
    folder = work / "watched"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(work / "drawn", folder)
    # Rows that are the same would be told as copies of one another.
    rows = [{**row, "id": number} for number, row in enumerate(rows)]
    (folder / "train.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


def _print(name: str, spent: dict[str, float]) -> None:
    print(f"{name:<21}" + "".join(f"{seconds:>10.3f}" for seconds in spent.values()), end="")
    print(f"{sum(spent.values()):>10.3f}", flush=True)


def _command(work: Path, model: Path) -> None:
    """Where the time of a whole command goes, merging and verification included."""
    folder = work / "whole"
    shutil.rmtree(folder, ignore_errors=True)
    draw_pictures(folder, NUM_OF_DRAWN, SIDE, SIDE)
    job = Job(work=work, model=model, data=folder, samples=NUM_OF_DRAWN, epochs=1)
    config = sightline_config(job, folder)
    config |= {"verify": {"enabled": True}, "export": {"merged": True}}
    print(f"\nthe whole of sightline train, {job.num_steps} steps, merged and verified, s")
    for text, seconds in watched("whole", config, folder)["stages"]:
        print(f"{text:<40}{seconds:>8.2f}")


def watched(kind: str, config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What training_watched.py says of a run."""
    path = folder / "run.yaml"
    path.write_text(json.dumps(config))
    os.environ["STARTED"] = str(time.time())
    script = str(HERE / "training_watched.py")
    ran = run_command([sys.executable, script, kind, str(path)], folder)
    return json.loads(ran.output.splitlines()[-1])
