"""A checkpoint of any number of processes is read by any number of processes (FSDP2, gloo)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sightline.training.checkpoints.manifest import fault_of

SCRIPT = Path(__file__).with_name("resharded_process.py")
LOADS = [(2, 2), (2, 1), (2, 4), (1, 2)]
RANDOM = ("drawn.", "held")


def _gap(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    names = [name for name in one if not name.startswith(RANDOM)]
    assert len(names) == 8
    return max(float((one[name] - other[name]).abs().max()) for name in names)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """All cases, made by one start of the script."""
    root = tmp_path_factory.mktemp("resharded")
    cases = [(count, str(count), "save", f"saved-{count}") for count in (1, 2)]
    cases += [(after, str(before), "load", f"loaded-{before}-{after}") for before, after in LOADS]
    cases += [(2, "full", "fail", "said")]
    lines = [f"{count} {root / folder} {what} {root / out}" for count, folder, what, out in cases]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *lines],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return root


@pytest.mark.parametrize(("before", "after"), LOADS)
def test_any_number_of_processes_goes_on(root: Path, before: int, after: int) -> None:
    assert fault_of(root / str(before)) is None
    expected = load_file(root / f"saved-{before}")
    found = load_file(root / f"loaded-{before}-{after}")
    if before == after:
        assert _gap(expected, found) == 0.0
        for rank in range(before):
            assert torch.equal(expected[f"drawn.{rank}"], found[f"drawn.{rank}"])
        assert not torch.equal(found["drawn.0"], found["drawn.1"])
    else:
        assert _gap(expected, found) < 1e-6
    if after > 1:
        # It was sharded: no process holds all.
        assert int(found["held"].max()) < sum(
            found[name].numel() for name in found if not name.startswith(RANDOM)
        )


def test_what_is_saved_is_the_same_from_one_and_from_two(root: Path) -> None:
    for name in ("weights", "optimizer"):
        one, two = (load_file(root / str(count) / f"{name}.safetensors") for count in (1, 2))
        assert one.keys() == two.keys()
        assert all(one[key].shape == two[key].shape for key in one)
        assert max(float((one[key] - two[key]).abs().max()) for key in one) < 1e-6
    # Of what got no gradient the optimizer knows nothing.
    assert not any(key.startswith("late") for key in one)
    assert {key.partition("::")[2] for key in one} == {"exp_avg", "exp_avg_sq", "step"}


def test_a_full_disk_of_the_first_ends_all_with_its_words(root: Path) -> None:
    first, second = ((root / f"said.{rank}").read_text("utf-8") for rank in (0, 1))
    assert "no space left on the device" in first
    assert second == f"process 0 of 2 ended this one: {first}"
