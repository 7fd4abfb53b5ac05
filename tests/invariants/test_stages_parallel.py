"""Stages on several processes: the same weights as on one, with DDP and with FSDP2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("staged_process.py")


@pytest.fixture(scope="module")
def pictures(shapes_folder, tmp_path_factory) -> Path:
    """Four samples with a picture each."""
    lines = (shapes_folder / "train.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if isinstance(row.get("image"), str)][:3]
    for row in rows:
        row["image"] = str(shapes_folder / row["image"])
    path = tmp_path_factory.mktemp("pictures") / "train.jsonl"
    chosen = [*rows, rows[0]]
    path.write_text("".join(json.dumps(row) + "\n" for row in chosen), encoding="utf-8")
    return path


def _run(num_processes: int, *arguments: str) -> dict[str, torch.Tensor]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *(launcher if num_processes == 2 else []), str(SCRIPT), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(arguments[-1], weights_only=True)


@pytest.mark.parametrize(
    ("how", "kind"), [("trainer", "DistributedDataParallel"), ("sharded", "DTensor")]
)
def test_two_processes_are_as_one(how: str, kind: str, tiny_folder, pictures, tmp_path) -> None:
    given = (str(tiny_folder("qwen3_vl")), str(pictures), how)
    one = _run(1, *given, str(tmp_path / "one.pt"))
    two = _run(2, *given, str(tmp_path / "two.pt"))
    assert json.loads((tmp_path / "two.json").read_text(encoding="utf-8")) == kind
    assert one.keys() == two.keys()
    gaps = {name: float((one[name] - two[name]).abs().max()) for name in one}
    assert max(gaps.values()) < 1e-5, max(gaps, key=lambda name: gaps[name])
