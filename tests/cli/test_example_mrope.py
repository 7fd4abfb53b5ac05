"""The example of M-RoPE in a model of one's own runs, and says what it measured."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(
    r"^  (adapters|staged|everything|1-D) +(M-RoPE|1-D) +([\d,]+) +([\d.]+) +([\d.]+) +[\d.]+%",
    flags=re.MULTILINE,
)


def test_the_example_tunes_in_every_way(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "examples/mrope_in_your_own_model.py",
            "--quick",
            "--output",
            str(tmp_path),
        ],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert max(len(line) for line in done.stdout.splitlines()[:-1]) <= 80
    probe = done.stdout.split("Step 0:")[1].splitlines()
    own, yours = (next(line for line in probe if name in line) for name in ("pre-training", "your"))
    assert all(re.search(r"\d+\.\d{3} +\d+\.\d{3}$", line) for line in (own, yours))
    rows = {name: rest for name, *rest in ROW.findall(done.stdout)}
    assert list(rows) == ["adapters", "staged", "everything", "1-D"]
    trainable = {way: int(row[1].replace(",", "")) for way, row in rows.items()}
    assert trainable["adapters"] < trainable["everything"] == trainable["staged"]
    # All start from the same weights and positions, and learn something.
    starts = {way: float(row[2]) for way, row in rows.items()}
    ends = {way: float(row[3]) for way, row in rows.items()}
    assert starts["adapters"] == starts["staged"] == starts["everything"]
    assert all(ends[way] < starts[way] for way in rows)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
