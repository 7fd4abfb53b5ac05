"""What proof costs: checks before a run, verification after it, and answers in batches.

``python benchmarks/proof.py [check] [verify] [predict]``: parts by name, all without one. A tiny
model and pictures are made on the spot. Turns are taken, and medians count. Before the time of
answers is taken, those of both ways are compared, every token of them. What the checks cost that go
along with a training is in the table of a step: ``benchmarks/training.py step``, "watching".
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.update(TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")

from transformers.utils import logging

from sightline.checks.dataset import check_data
from sightline.config.load import config_of
from sightline.data.shapes import write_shapes
from sightline.evaluation.asking import ask, questions_of
from sightline.evaluation.predicting import predict
from sightline.evaluation.prediction import Prediction
from sightline.evaluation.serving import load_answerer, served
from sightline.model.tiny import make_tiny_model
from sightline.preparation import make_encoder, prepare_data
from sightline.training import SilentObserver, train

FAMILY = "qwen2_5_vl"
NUM_PICTURES = 48
NEW_TOKENS = 64
NUM_ROWS = 20_000
BATCH_SIZES = (1, 4, 8, 16)
TURNS = 3
LEAST_RATIO = 3.0
MOST_SECONDS = 30.0
MOST_ADDED = 0.25


def predicting(work: Path) -> bool:
    """Answers a second by batch size, reading pictures and parsing included."""
    make = _predictor(work)
    first = make(BATCH_SIZES[0])
    for size in BATCH_SIZES[1:]:
        assert [one.answer for one in make(size)] == [one.answer for one in first], size
    seconds: dict[int, list[float]] = {size: [] for size in BATCH_SIZES}
    for _ in range(TURNS):
        for size in BATCH_SIZES:
            began = time.perf_counter()
            made = make(size)
            seconds[size].append(time.perf_counter() - began)
    num_tokens = sum(one.num_tokens for one in made)
    print(f"\npredictions: {NUM_PICTURES} pictures of 112 x 112, {num_tokens:,} tokens answered")
    print(f"{'at once':>8} {'seconds':>9} {'answers/s':>10} {'ratio':>7}")
    alone = median(seconds[1])
    for size in BATCH_SIZES:
        took = median(seconds[size])
        print(f"{size:>8} {took:>9.2f} {NUM_PICTURES / took:>10.1f} {alone / took:>6.1f}x")
    ratio = alone / min(median(times) for times in seconds.values())
    print(f"in batches {ratio:.1f} times as fast as one by one; at least {LEAST_RATIO:g} is wanted")
    return ratio >= LEAST_RATIO


def _predictor(work: Path) -> Callable[[int], list[Prediction]]:
    """Answers all questions of a data set, so many at once; in the order of the data."""
    model = make_tiny_model(FAMILY, work / "model")
    data = write_shapes(work / "data", num_images=NUM_PICTURES, height=112, width=112)
    source = {"path": str(data.train_file)}
    values = {"model": str(model), "data": {"train": [source]}, "output": str(work / "run")}
    config = config_of(values, work)
    what = served(str(model))
    checkpoint = what.checkpoint()
    part = prepare_data(config, checkpoint).train
    encoder, questions = make_encoder(checkpoint), questions_of(part.samples, "last")
    answerer = load_answerer(what, checkpoint, precision="fp32", max_new_tokens=NEW_TOKENS)

    def make(batch_size: int) -> list[Prediction]:
        batches = predict(
            questions,
            lambda one: ask(
                one,
                part.samples,
                encoder,
                space=checkpoint.family.box_space,
                sources=[source["path"]],
            ),
            answerer,
            batch_size=batch_size,
        )
        return sorted((one for batch in batches for one in batch), key=lambda one: one.sample)

    return make


def verifying(work: Path) -> bool:
    """``sightline verify`` of a tiny run, in a fresh process, imports included."""
    data = write_shapes(work / "data", num_images=8, height=112, width=112)
    values = {
        "model": f"tiny:{FAMILY}",
        "data": {"train": str(data.train_file)},
        "training": {"max_steps": 20, "learning_rate": 1e-3, "gradient_accumulation": 1},
        "verify": {"enabled": False},
        "output": str(work / "run"),
    }
    run = train(config_of(values, work), SilentObserver()).run.path
    command = [sys.executable, "-m", "sightline", "verify", str(run)]
    seconds = []
    for _ in range(TURNS):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - began)
    took = median(seconds)
    print("\nverification of a tiny run: 4 samples, every check, in a process of its own")
    print(f"{took:.1f} s; under {MOST_SECONDS:g} s is wanted")
    return took < MOST_SECONDS


def checking(work: Path) -> bool:
    """What ``sightline check`` adds to reading the data, with no index there at the start."""
    model = make_tiny_model(FAMILY, work / "model")
    shapes = write_shapes(work / "data", num_images=NUM_PICTURES, height=112, width=112)
    some = [json.loads(line) for line in shapes.train_file.read_text().splitlines()]
    rows = work / "data" / "rows.jsonl"
    with rows.open("w") as file:
        for number in range(NUM_ROWS):
            row = some[number % len(some)]
            asked, *others = row["conversations"]
            said = {**asked, "value": f"{asked['value']} No. {number}."}
            file.write(json.dumps({**row, "conversations": [said, *others]}) + "\n")
    config = config_of(
        {"model": str(model), "data": {"train": str(rows)}, "output": str(work / "run")}, work
    )
    checkpoint = served(str(model)).checkpoint()
    reading, ledger, checks = [], [], []
    for _ in range(TURNS):
        shutil.rmtree(work / "index", ignore_errors=True)
        began = time.perf_counter()
        data = prepare_data(config, checkpoint, stop_on_bad=False)
        read = time.perf_counter()
        counts = data.train.write_ledger(work / "ledger.jsonl", work / "quarantine.jsonl")
        wrote = time.perf_counter()
        record = check_data(config, checkpoint, data, counts)
        ended = time.perf_counter()
        assert record["samples"] == NUM_ROWS
        reading.append(read - began)
        ledger.append(wrote - read)
        checks.append(ended - wrote)
    took = {"read": median(reading), "ledger": median(ledger), "checks": median(checks)}
    print(f"\nchecks: {NUM_ROWS:,} rows with a picture and boxes, no index at the start")
    print(f"{'reading':>9} {'ledger':>9} {'checks':>9} {'added':>7}")
    added = (took["ledger"] + took["checks"]) / took["read"]
    print(" ".join(f"{seconds:>7.2f} s" for seconds in took.values()), f"{added:>6.1%}")
    print(f"less than {MOST_ADDED:.0%} is wanted")
    return added < MOST_ADDED


PARTS: dict[str, Callable[[Path], bool]] = {
    "check": checking,
    "verify": verifying,
    "predict": predicting,
}


def main() -> None:
    """Run the parts that are named; ends with 1 where one is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    wanted = parser.parse_args().parts or list(PARTS)
    unknown = [name for name in wanted if name not in PARTS]
    if unknown:
        parser.error(f"there is no part {unknown[0]}; there are {', '.join(PARTS)}")
    logging.disable_progress_bar()
    holds = []
    for name in wanted:
        with tempfile.TemporaryDirectory() as folder:
            holds.append(PARTS[name](Path(folder)))
    raise SystemExit(not all(holds))


if __name__ == "__main__":
    main()
