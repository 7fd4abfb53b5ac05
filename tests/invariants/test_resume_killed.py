"""Twenty runs killed with SIGKILL and gone on with: each ends as the run that was never killed.

What is compared, bit by bit: the exported weights, the last checkpoint (weights, optimizer, random
numbers), the losses of every step and evaluation, and which samples were trained on in which step.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from sightline.data.shapes import write_shapes

SCRIPT = Path(__file__).with_name("killed_process.py")
NUM_RUNS = 20
NUM_SERVERS = 2
SEED = 7
SECONDS = 60.0
# How likely a run is killed again that goes on, and how often at most.
AGAIN, MOST_KILLS = 0.6, 3
MOST_ATTEMPTS = 8

# Of what a run can be in the middle of, each kind has some. An interval of the log spans saves,
# evaluations and stages; dropout draws random numbers in every step.
KINDS: dict[str, dict[str, Any]] = {
    "stages, dropout, an evaluation an epoch, the log in threes": {
        "tuning": {
            "language": "lora",
            "projector": "full",
            "lora": {"dropout": 0.3},
            "stages": [{"until": 2, "language": "freeze"}, {}],
        },
        "training": {"log_every": 3, "gradient_checkpointing": True, "save_total_limit": 1},
    },
    "in full, workers, the best kept, an evaluation every second step": {
        "tuning": {"language": "full", "projector": "freeze"},
        "training": {
            "num_workers": 2,
            "gradient_checkpointing": False,
            "eval_every": 2,
            "best_by": "eval_loss",
            "warmup_ratio": 0.3,
        },
    },
}


class Server:
    """A process of killed_process.py."""

    def __init__(self, model: Path) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        self._process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(model)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def ask(self, **asked: Any) -> dict[str, Any]:
        """Train once; see killed_process.py."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "killed_process.py has ended"
        return json.loads(line)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=SECONDS)


class Whole(NamedTuple):
    """A run that was never killed.

    Attributes:
        config: Its configuration.
        folder: Where it stands.
        seconds: How long it took.
        operations: Operations on its files.
    """

    config: dict[str, Any]
    folder: Path
    seconds: float
    operations: int


@pytest.fixture(scope="module")
def servers(tiny_folder) -> Iterator[Queue[Server]]:
    started = [Server(tiny_folder("qwen2_vl")) for _ in range(NUM_SERVERS)]
    free: Queue[Server] = Queue()
    for server in started:
        assert server.answer() == {"ready": True}
        free.put(server)
    yield free
    for server in started:
        server.close()


@pytest.fixture(scope="module")
def whole_runs(servers, tiny_folder, tmp_path_factory) -> dict[str, Whole]:
    root = tmp_path_factory.mktemp("killed")
    write_shapes(root / "data", num_images=5, height=56, width=56)
    tiny = tiny_folder("qwen2_vl")
    server = servers.get()
    found = {}
    for number, (kind, changes) in enumerate(KINDS.items()):
        training = {
            "epochs": 2,
            "batch_size": 1,
            "gradient_accumulation": 2,
            "learning_rate": 1e-3,
            "save_every": 1,
        }
        config = {
            "model": str(tiny),
            "data": {
                "train": str(root / "data" / "train.jsonl"),
                "eval": str(root / "data" / "train.jsonl"),
                "index_folder": str(root / "index"),
            },
            "tuning": {"vision": "freeze"} | changes["tuning"],
            "training": training | changes["training"],
            "export": {"merged": "lora" not in changes["tuning"].values()},
            "verify": {"samples": 1, "max_new_tokens": 2},
            "output": str(root / f"whole-{number}"),
        }
        told = {"config": config, "resume": False, "log": str(root / f"whole-{number}.log")}
        answer = server.ask(**told, order=str(root / f"whole-{number}.0.order"))
        assert answer["code"] == 0, Path(told["log"]).read_text(encoding="utf-8")[-3000:]
        folder = Path(config["output"])
        found[kind] = Whole(config, folder, answer["seconds"], answer["operations"])
    servers.put(server)
    return found


def test_twenty_killed_runs_end_as_the_run_that_was_not_killed(
    servers, whole_runs, tmp_path_factory
) -> None:
    root = tmp_path_factory.mktemp("again")
    kinds = list(whole_runs)

    def one(number: int) -> tuple[int, list[str]]:
        server = servers.get()
        try:
            whole = whole_runs[kinds[number % len(kinds)]]
            return _killed_and_gone_on(server, whole, root / f"run-{number}", number)
        finally:
            servers.put(server)

    with ThreadPoolExecutor(NUM_SERVERS) as pool:
        outcomes = list(pool.map(one, range(NUM_RUNS)))
    faults = {number: found for number, (_, found) in enumerate(outcomes) if found}
    assert not faults, faults
    kills = [count for count, _ in outcomes]
    # Not one of them got away, and some were killed while they went on.
    assert min(kills) >= 1
    assert sum(count > 1 for count in kills) >= NUM_RUNS // 4


def _killed_and_gone_on(
    server: Server, whole: Whole, folder: Path, number: int
) -> tuple[int, list[str]]:
    """How often a run was killed, and how it differs from the whole one."""
    draw = random.Random(SEED * 1000 + number)
    config = whole.config | {"output": str(folder)}
    log = folder.with_suffix(".log")
    num_kills, shorter = 0, 1.0
    for attempt in range(MOST_ATTEMPTS):
        resume = (folder / "run.json").is_file()
        asked: dict[str, Any] = {"config": config, "resume": resume, "log": str(log)}
        if num_kills == 0 or (num_kills < MOST_KILLS and draw.random() < AGAIN):
            # Half are hit at a time, most often in arithmetic or in a file that is half written;
            # half between two operations on files, most often while a checkpoint is made.
            if number // len(KINDS) % 2:
                asked["kill_after"] = draw.uniform(0.2, 0.9) * whole.seconds * shorter
            else:
                asked["kill_at"] = draw.randint(1, whole.operations)
        answer = server.ask(**asked, order=f"{folder}.{attempt}.order")
        if answer["code"] == 0:
            if num_kills:
                return num_kills, _differences(whole.folder, folder)
            # Faster than it was said to be killed: again, from the beginning, and sooner.
            folder.rename(f"{folder}.{attempt}")
            Path(f"{folder}.{attempt}.order").unlink()
            shorter /= 2
            continue
        if answer["code"] != -signal.SIGKILL:
            return num_kills, [log.read_text(encoding="utf-8")[-3000:]]
        num_kills += 1
    return num_kills, ["never ended"]


def _differences(whole: Path, again: Path) -> list[str]:
    found = [*_exports(whole, again), *_checkpoints(whole, again)]
    if (first := _metrics(whole)) != (second := _metrics(again)):
        found.append(f"metrics: {first} and {second}")
    orders = [_order(path) for path in sorted(again.parent.glob(f"{again.name}.*.order"))]
    [expected] = [_order(path) for path in whole.parent.glob(f"{whole.name}.*.order")]
    for order in orders:
        *done, last = order or [-1]
        for step in done:
            if order[step] != expected[step]:
                found.append(f"order of step {step}: {order[step]} and {expected[step]}")
        # In the last step it may have been killed.
        if order and order[last] != expected[last][: len(order[last])]:
            found.append(f"order of step {last}: {order[last]} and {expected[last]}")
    if {step for order in orders for step in order} != set(expected):
        found.append("some steps were never made")
    return found


def _exports(whole: Path, again: Path) -> Iterator[str]:
    names = [path.relative_to(whole) for path in sorted(whole.glob("*/*.safetensors"))]
    assert names
    for name in names:
        first, second = load_file(whole / name), load_file(again / name)
        if first.keys() != second.keys() or not all(
            torch.equal(first[key], second[key]) for key in first
        ):
            yield f"{name} differs"


def _checkpoints(whole: Path, again: Path) -> Iterator[str]:
    first, second = (sorted(run.glob("checkpoints/*"), key=_step) for run in (whole, again))
    if [path.name for path in first] != [path.name for path in second]:
        yield f"checkpoints: {[p.name for p in first]} and {[p.name for p in second]}"
        return
    for one, other in zip(first, second, strict=True):
        for file in ("weights", "optimizer", "rng"):
            if _digests(one)[f"{file}.safetensors"] != _digests(other)[f"{file}.safetensors"]:
                yield f"{other.name}/{file} differs"
        if _digests(one)["optimizer.json"] != _digests(other)["optimizer.json"]:
            yield f"{other.name}/optimizer.json differs"


def _step(path: Path) -> int:
    assert path.name.startswith("checkpoint-"), f"left behind: {path}"
    return int(path.name.partition("-")[2])


def _digests(checkpoint: Path) -> dict[str, str]:
    files = json.loads((checkpoint / "manifest.json").read_text(encoding="utf-8"))["files"]
    return {file["name"]: file["blake2b"] for file in files}


def _metrics(run: Path) -> list[tuple[Any, ...]]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    keys = ("step", "epoch", "loss", "eval_loss", "grad_norm", "learning_rate", "stage")
    return [tuple(json.loads(line).get(key) for key in keys) for line in lines]


def _order(path: Path) -> dict[int, list[str]]:
    """Digests of the micro-batches of every step that was begun."""
    found: dict[int, list[str]] = {}
    for line in path.read_text(encoding="ascii").splitlines() if path.is_file() else ():
        step, digest = line.split()
        found.setdefault(int(step), []).append(digest)
    return found
