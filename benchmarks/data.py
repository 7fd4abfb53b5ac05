"""The pass over the data: beside the family's processor and beside other tools' own passes.

``python benchmarks/data.py [--llamafactory PYTHON] [--swift PYTHON] [--largest 1000000]``: other
tools prepare in environments of their own, those of `make peers` where none is named; where there
is none they are left out. Everything is made on the spot: pictures, rows, and a tiny Qwen2.5-VL
whose tokenizer and processor are real. Those who take part take turns, and medians count. The index
is thrown away between turns.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from environments import add_peers, not_measured
from PIL import Image

from sightline.config import RunConfig
from sightline.model import Checkpoint, open_checkpoint
from sightline.model.tiny import make_tiny_model
from sightline.preparation import prepare_data

FAMILY = "qwen2_5_vl"
NUM_SAMPLES = 2000
NUM_FOR_ONE_CORE = 10_000
NUM_FOR_PROCESSOR = 40
NUM_FOR_CORES = 60_000
TURNS = 5
WORDS = (
    "a red blue left right of image car dog street people where what how many is near under tall",
    "small bright window door tree two behind holding sitting wearing white green box the are",
)
VOCABULARY = " ".join(WORDS).split()
DECLARATION = {
    "bench": {
        "file_name": "rows.jsonl",
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "images": "images"},
        "tags": {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
        },
    }
}


def make_pictures(folder: Path, count: int, width: int, height: int) -> None:
    """JPEG files of smooth noise: faster to decode than photographs."""
    folder.mkdir(parents=True)
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 255, (12, 16, 3), dtype=np.uint8)
        picture = Image.fromarray(noise).resize((width, height))
        picture.save(folder / f"{number}.jpg", quality=85)


def make_rows(folder: Path, count: int, *, pictures: str | None, asked: int, said: int) -> Path:
    """A JSONL file of one question and one answer a row, of so many words.

    Args:
        folder: Where it is made.
        count: Rows.
        pictures: Name of the folder of pictures beside ``folder``; None for none.
        asked: Words of a question.
        said: Words of an answer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chosen = random.Random(0)
    mark = "<image>" if pictures else ""
    link = folder / "pictures"
    if pictures and not link.is_symlink():
        # Media stay in the folder of their rows.
        link.symlink_to(Path("..") / pictures)
    with (folder / "rows.jsonl").open("w") as file:
        for number in range(count):
            question = f"{mark}{' '.join(chosen.choices(VOCABULARY, k=asked))} {number}?"
            answer = " ".join(chosen.choices(VOCABULARY, k=said))
            row: dict[str, Any] = {
                "messages": [
                    {"role": "user", "content": question},
                    {"role": "assistant", "content": answer},
                ]
            }
            if pictures:
                row["images"] = [f"pictures/{number % NUM_SAMPLES}.jpg"]
            file.write(json.dumps(row) + "\n")
    return folder / "rows.jsonl"


def run_of(rows: Path, checkpoint: Path, *, num_processes: int) -> RunConfig:
    """A run on one file, its index beside it."""
    return RunConfig.model_validate(
        {
            "model": str(checkpoint),
            "output": str(rows.parent / "run"),
            "data": {"train": str(rows), "processes": num_processes, "max_length": 4096},
        }
    )


def read_all(config: RunConfig, checkpoint: Checkpoint) -> int:
    """The whole pass: read, measure, fit. The index is made anew."""
    shutil.rmtree(Path(config.output).parent / "index", ignore_errors=True)
    return prepare_data(config, checkpoint).train.plan.num_samples


def process_some(rows: Path, processor: Any) -> int:
    """Rows as the processor of transformers takes them: template, pixels, ids."""
    with rows.open() as file:
        some = [json.loads(next(file)) for _ in range(NUM_FOR_PROCESSOR)]
    for row in some:
        asked, said = (turn["content"] for turn in row["messages"])
        question = {"type": "text", "text": asked.removeprefix("<image>")}
        images = [Image.open(rows.parent / name) for name in row.get("images", [])]
        content = [{"type": "image"} for _ in images] + [question]
        turns = [
            {"role": "user", "content": content},
            {"role": "assistant", "content": [{"type": "text", "text": said}]},
        ]
        text = processor.apply_chat_template(turns, tokenize=False)
        processor(text=[text], images=images or None)
    return len(some)


def rate_of(work: Callable[[], int]) -> float:
    """Samples a second of one call."""
    start = time.perf_counter()
    count = work()
    return count / (time.perf_counter() - start)


def one_core(work: Path, source: Path) -> None:
    """Samples a second, on one core, beside the family's processor."""
    print("\none core, samples a second                 pass  processor    ratio")
    kinds = {
        "JPEG 1280 x 960, 8 words and 3": ("large", 8, 3),
        "JPEG 1280 x 960, 12 words and 20": ("large", 12, 20),
        "JPEG 640 x 480, 8 words and 3": ("small", 8, 3),
        "JPEG 640 x 480, 12 words and 20": ("small", 12, 20),
        "text, 8 words and 3": (None, 8, 3),
        "text, 12 words and 20": (None, 12, 20),
    }
    for name, (pictures, asked, said) in kinds.items():
        folder = work / f"rows-one-{pictures}-{said}"
        rows = make_rows(folder, NUM_FOR_ONE_CORE, pictures=pictures, asked=asked, said=said)
        config = run_of(rows, source, num_processes=1)
        checkpoint = open_checkpoint(str(source), config.data)
        read_all(config, checkpoint)
        ours, theirs = [], []
        for _ in range(TURNS):
            ours.append(rate_of(lambda: read_all(config, checkpoint)))  # noqa: B023 - called now
            theirs.append(rate_of(lambda: process_some(rows, checkpoint.processor)))  # noqa: B023
        fast, slow = median(ours), median(theirs)
        print(f"{name:<40}{fast:>9,.0f} {slow:>10,.1f} {fast / slow:>7.0f}x")


def two_cores(work: Path, source: Path) -> None:
    """Processes against one, on rows enough to keep them busy."""
    print(f"\nprocesses, {NUM_FOR_CORES:,} rows with a picture     seconds   samples/s    ratio")
    rows = make_rows(work / "rows-cores", NUM_FOR_CORES, pictures="small", asked=8, said=3)
    times: dict[int, list[float]] = {1: [], 2: []}
    checkpoint = open_checkpoint(str(source), run_of(rows, source, num_processes=1).data)
    for _ in range(3):
        for count, taken in times.items():
            config = run_of(rows, source, num_processes=count)
            start = time.perf_counter()
            read_all(config, checkpoint)
            taken.append(time.perf_counter() - start)
    for count, taken in times.items():
        seconds = median(taken)
        ratio = median(times[1]) / seconds
        print(f"{count:<44}{seconds:>9.2f} {NUM_FOR_CORES / seconds:>11.0f} {ratio:>7.2f}x")


def memory(work: Path, source: Path, largest: int) -> None:
    """Peak memory of the pass over more and more rows, each in processes of its own."""
    print("\ntwo processes          seconds    again   MiB at its   peak of    index")
    print("                                              start   a worker      MiB")
    print("                                           and peak")
    count = 10_000
    while count <= largest:
        rows = make_rows(work / "rows-many", count, pictures="small", asked=8, said=3)
        command = [sys.executable, __file__, "--measure", str(rows), str(source)]
        ran = subprocess.run(command, check=True, capture_output=True)
        said = json.loads(ran.stdout.splitlines()[-1])
        print(
            f"{count:>9,} rows {said['first']:>14.1f} {said['again']:>8.1f} "
            f"{said['before']:>6.0f} {said['peak']:>5.0f} {said['worker']:>10.0f} "
            f"{said['index']:>8.0f}"
        )
        count *= 10


def measure(rows: Path, source: Path) -> None:
    """One pass in this process and its workers, and one again; seconds and MiB as JSON."""
    config = run_of(rows, source, num_processes=2)
    index = Path(config.output).parent / "index"
    shutil.rmtree(index, ignore_errors=True)
    checkpoint = open_checkpoint(str(source), config.data)
    # Loading libraries takes more than the pass; the peak is counted from here.
    Path("/proc/self/clear_refs").write_text("5")
    before = memory_now("VmRSS")
    first = seconds_of(lambda: prepare_data(config, checkpoint))
    again = seconds_of(lambda: prepare_data(config, checkpoint))
    worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    size = sum(path.stat().st_size for path in index.rglob("*") if path.is_file()) / 2**20
    said = {"first": first, "again": again, "before": before, "peak": memory_now("VmHWM")}
    print(json.dumps({**said, "worker": worker, "index": size}))


def memory_now(name: str) -> float:
    """A line of ``/proc/self/status``, MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise KeyError(name)


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peers(work: Path, source: Path, pythons: dict[str, str]) -> None:
    """The same rows by other tools, each as a process in its own environment."""
    rows = make_rows(work / "rows-peers", NUM_SAMPLES, pictures="small", asked=12, said=20)
    (rows.parent / "dataset_info.json").write_text(json.dumps(DECLARATION))
    config = run_of(rows, source, num_processes=1)
    checkpoint = open_checkpoint(str(source), config.data)
    here = Path(__file__).parent / "peers"
    commands = {
        "LLaMA-Factory": [str(here / "in_llamafactory.py"), str(source), str(rows.parent)],
        "ms-swift": [str(here / "in_ms_swift.py"), str(source), str(rows)],
    }
    rates: dict[str, list[float]] = {"Sightline": [], **{name: [] for name in pythons}}
    tokens: dict[str, int] = {}
    for _ in range(3):
        rates["Sightline"].append(rate_of(lambda: read_all(config, checkpoint)))
        for name, python in pythons.items():
            ran = subprocess.run(
                [python, *commands[name]], check=True, capture_output=True, cwd=rows.parent
            )
            said = json.loads(ran.stdout.splitlines()[-1])
            assert said["samples"] == NUM_SAMPLES, said
            rates[name].append(said["samples"] / said["seconds"])
            tokens[name] = said["tokens"]
    items = prepare_data(config, checkpoint).train.plan.item_table()
    tokens["Sightline"] = sum(items.column("num_tokens").to_pylist())
    print(
        f"\nthe same {NUM_SAMPLES:,} samples, one process     samples/s      tokens  Sightline is"
    )
    for name, taken in rates.items():
        ratio = median(rates["Sightline"]) / median(taken)
        print(f"{name:<34}{median(taken):>17.1f} {tokens[name]:>11,} {ratio:>12.0f}x")
    for name in commands.keys() - pythons.keys():
        print(not_measured(name))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_peers(parser, "llamafactory", "swift")
    parser.add_argument("--largest", type=int, default=1_000_000, metavar="ROWS")
    parser.add_argument("--measure", nargs=2, type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(*given.measure)
        return
    os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")
    pythons = {"LLaMA-Factory": given.llamafactory, "ms-swift": given.swift}
    with tempfile.TemporaryDirectory() as folder:
        work, source = Path(folder), Path(folder) / "model"
        make_tiny_model(FAMILY, source)
        make_pictures(work / "small", NUM_SAMPLES, 640, 480)
        make_pictures(work / "large", NUM_SAMPLES, 1280, 960)
        one_core(work, source)
        two_cores(work, source)
        peers(work, source, {name: python for name, python in pythons.items() if python})
        memory(work, source, given.largest)


if __name__ == "__main__":
    main()
