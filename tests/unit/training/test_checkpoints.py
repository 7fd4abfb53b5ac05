"""Files of a checkpoint: written as they are read by others, and every fault of them found."""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from sightline.errors import RunError
from sightline.records import atomic_directory, write_json
from sightline.training.checkpoints import content
from sightline.training.checkpoints.folder import (
    checkpoints_in,
    clear_leftovers,
    newest_good,
    rotate,
)
from sightline.training.checkpoints.manifest import fault_of, write_manifest
from sightline.training.checkpoints.random_state import random_states, set_random_states
from sightline.training.checkpoints.tensors import TensorFiles, TensorSpec, TensorWriter


def _tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "a.weight": torch.randn(3, 5),
        "b::step": torch.tensor(7.0),
        "c": torch.randn(4, 2).bfloat16(),
        "none": torch.empty(0, 3),
        "turned": torch.randn(4, 6).T,
        "counts": torch.arange(5),
        "flags": torch.tensor([True, False, True]),
    }


def _write(
    folder: Path, tensors: dict[str, torch.Tensor], stem: str = "weights", **options: Any
) -> list[Any]:
    specs = [TensorSpec(name, tuple(t.shape), t.dtype) for name, t in tensors.items()]
    with TensorWriter(folder, stem, specs, **options) as writer:
        for tensor in tensors.values():
            writer.write(tensor)
        return writer.written()


# Tensors.


def test_what_is_streamed_is_what_safetensors_reads(tmp_path: Path) -> None:
    tensors = _tensors()
    [written] = _write(tmp_path, tensors)
    path = tmp_path / "weights.safetensors"
    assert (written.name, written.num_bytes) == (path.name, path.stat().st_size)
    with safe_open(str(path), framework="pt") as opened:
        assert opened.metadata() == {"format": "pt"}
    read = load_file(path)
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor), name


def test_files_end_where_they_are_full(tmp_path: Path) -> None:
    tensors = {str(number): torch.full((4,), float(number)) for number in range(5)}
    written = _write(tmp_path, tensors, shard_bytes=40)
    assert [file.name for file in written] == [
        f"weights-0000{number}-of-00003.safetensors" for number in (1, 2, 3)
    ]
    assert all((tmp_path / file.name).stat().st_size == file.num_bytes for file in written)
    # A file beside them of a name that begins alike is another.
    _write(tmp_path, {"0": torch.zeros(1)}, stem="weightsofothers")
    files = TensorFiles(tmp_path, "weights")
    assert sorted(files.names) == ["0", "1", "2", "3", "4"]
    part = torch.empty(2)
    files.read_into("3", part, (slice(1, 3),))
    assert part.tolist() == [3.0, 3.0]


def test_no_tensor_at_all_is_a_file(tmp_path: Path) -> None:
    """As the optimizer's before its first step: it can be told from one that is lost."""
    assert [file.name for file in _write(tmp_path, {})] == ["weights.safetensors"]
    assert TensorFiles(tmp_path, "weights").names == []
    with pytest.raises(RunError, match=r"optimizer\.safetensors is missing"):
        TensorFiles(tmp_path, "optimizer")


def test_another_shape_is_refused_with_both(tmp_path: Path) -> None:
    _write(tmp_path, {"a": torch.zeros(4, 3)})
    with pytest.raises(RunError, match=r"a is \[4, 3\] in the checkpoint.*\[2, 3\]"):
        content.load_weights(tmp_path, {"a": torch.nn.Parameter(torch.zeros(2, 3))})


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    _write(tmp_path, {"a": torch.zeros(1), "old": torch.zeros(1)})
    parameters = {name: torch.nn.Parameter(torch.zeros(1)) for name in ("a", "b", "c")}
    with pytest.raises(RunError, match="2 are missing and 1 are unknown, b for one"):
        content.load_weights(tmp_path, parameters)


# Random numbers.


def _drawn() -> list[Any]:
    return [
        random.random(),
        random.gauss(0, 1),
        np.random.standard_normal(),
        np.random.randint(1000),
        torch.rand(1).item(),
        torch.randn(3).tolist(),
    ]


@pytest.mark.parametrize("num_drawn", [0, 1, 2])
def test_random_numbers_go_on_where_they_were(tmp_path: Path, num_drawn: int) -> None:
    for _ in range(num_drawn):
        # After one of a pair of normal numbers the other is kept.
        random.gauss(0, 1)
        np.random.standard_normal()
    content.write_random_states(tmp_path, [random_states(), {}])
    expected = _drawn()
    set_random_states(random_states())
    _drawn()
    content.load_random_states(tmp_path, 0)
    assert _drawn() == expected


def test_every_process_has_its_own_random_numbers(tmp_path: Path) -> None:
    states = []
    for seed in (1, 2):
        random.seed(seed)
        torch.manual_seed(seed)
        states.append(random_states())
    content.write_random_states(tmp_path, states)
    drawn = {}
    for rank in (0, 1, 2):
        content.load_random_states(tmp_path, rank)
        drawn[rank] = _drawn()
    assert drawn[0] != drawn[1]
    # One more process than there were begins as the first: all begin alike, too.
    assert drawn[2] == drawn[0]


# Optimizer.


def _trained(kind: type, steps: int, **settings: Any) -> tuple[Any, dict[str, torch.nn.Parameter]]:
    torch.manual_seed(1)
    parameters = {name: torch.nn.Parameter(torch.randn(3)) for name in ("a", "b", "late")}
    groups = [
        {"params": [parameters["a"]], "lr": 0.1, "tower": "vision", "rates": (0.1, None)},
        {"params": [parameters["b"], parameters["late"]], "lr": 0.2, "tower": "head"},
    ]
    optimizer = kind(groups, **settings)
    _step(optimizer, parameters, steps)
    return optimizer, parameters


def _step(optimizer: Any, parameters: dict[str, torch.nn.Parameter], steps: int) -> None:
    for _ in range(steps):
        for name in ("a", "b"):
            parameters[name].grad = torch.sin(parameters[name].detach() * 3)
        optimizer.step()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (torch.optim.AdamW, {}),
        (torch.optim.AdamW, {"amsgrad": True, "foreach": False}),
        (torch.optim.AdamW, {"fused": True}),
        (torch.optim.SGD, {"momentum": 0.9}),
        (torch.optim.Adagrad, {}),
    ],
)
def test_an_optimizer_goes_on_as_if_it_had_not_stopped(
    tmp_path: Path, kind: type, settings: dict[str, Any]
) -> None:
    optimizer, parameters = _trained(kind, 3, **settings)
    optimizer.param_groups[0]["lr"] = 0.05
    content.write_optimizer(tmp_path, optimizer, parameters)
    content.write_weights(tmp_path, parameters)
    _step(optimizer, parameters, 2)
    again, others = _trained(kind, 1, **settings)
    content.load_weights(tmp_path, others)
    content.load_optimizer_state(tmp_path, again, others)
    assert again.param_groups[0]["rates"] == (0.1, None)
    assert again.param_groups[0]["lr"] == 0.05
    _step(again, others, 2)
    assert all(torch.equal(parameters[name], others[name]) for name in parameters)
    for name, parameter in parameters.items():
        first, second = optimizer.state[parameter], again.state[others[name]]
        assert first.keys() == second.keys()
        for key, value in first.items():
            assert torch.equal(value, second[key]), (name, key)
            assert value.dtype == second[key].dtype


def test_the_state_of_an_optimizer_is_not_the_file_itself(tmp_path: Path) -> None:
    """A mapped file that is rotated away would keep its place on the disk, and its state its."""
    optimizer, parameters = _trained(torch.optim.AdamW, 1)
    content.write_optimizer(tmp_path, optimizer, parameters)
    before = (tmp_path / "optimizer.safetensors").read_bytes()
    content.load_optimizer_state(tmp_path, optimizer, parameters)
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    assert str(tmp_path / "optimizer.safetensors") not in maps
    _step(optimizer, parameters, 1)
    assert (tmp_path / "optimizer.safetensors").read_bytes() == before


def test_another_optimizer_is_refused_with_both(tmp_path: Path) -> None:
    optimizer, parameters = _trained(torch.optim.AdamW, 1)
    content.write_optimizer(tmp_path, optimizer, parameters)
    other, others = _trained(torch.optim.SGD, 1)
    with pytest.raises(RunError, match="another class of the optimizer: AdamW then, SGD now"):
        content.load_optimizer_state(tmp_path, other, others)
    fewer = torch.optim.AdamW([{"params": list(parameters.values())}])
    with pytest.raises(RunError, match="another number of its groups: 2 then, 1 now"):
        content.load_optimizer_state(tmp_path, fewer, parameters)


# The manifest.


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """Three whole checkpoints, of steps 2, 4 and 10."""
    for step in (2, 4, 10):
        _checkpoint(tmp_path / "checkpoints" / f"checkpoint-{step}", step)
    return tmp_path / "checkpoints"


def _checkpoint(folder: Path, step: int) -> None:
    folder.mkdir(parents=True)
    known = _write(folder, {"a": torch.full((100,), float(step))})
    write_json(folder / "state.json", {"step": step})
    (folder / "engine").mkdir()
    (folder / "engine" / "shard.bin").write_bytes(b"an engine's own")
    write_manifest(folder, known)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))


FAULTS = {
    "a bit": (
        lambda folder: _flip(folder / "weights.safetensors"),
        r"weights\.safetensors has the digest [0-9a-f]{32}, the manifest says [0-9a-f]{32}",
    ),
    "a bit of an engine's file": (
        lambda folder: _flip(folder / "engine" / "shard.bin"),
        r"engine/shard\.bin has the digest",
    ),
    "cut": (
        lambda folder: os.truncate(folder / "weights.safetensors", 300),
        r"weights\.safetensors has 300 bytes, the manifest says 504",
    ),
    "gone": (lambda folder: (folder / "state.json").unlink(), r"state\.json cannot be read"),
    "a file more": (lambda folder: (folder / "more").write_bytes(b""), "more is not in manifest"),
    "no manifest": (
        lambda folder: (folder / "manifest.json").unlink(),
        r"manifest\.json is missing",
    ),
    "half a manifest": (
        lambda folder: os.truncate(folder / "manifest.json", 40),
        r"manifest\.json is broken",
    ),
    "another's manifest": (
        lambda folder: write_json(folder / "manifest.json", {"schema": 9, "files": []}),
        r"manifest\.json has schema 9, this version knows 1",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_named_and_the_one_before_is_used(checkpoints: Path, fault: str) -> None:
    assert fault_of(checkpoints / "checkpoint-10") is None
    harm, said = FAULTS[fault]
    harm(checkpoints / "checkpoint-10")
    notes: list[str] = []
    found = newest_good(checkpoints, note=notes.append)
    assert found is not None
    assert (found.step, found.state) == (4, {"step": 4})
    [note] = notes
    assert note.startswith(f"{checkpoints / 'checkpoint-10'} cannot be used: ")
    assert "The one of step 4 is whole" in note
    assert re.search(said, note), note


def test_steps_are_numbers_and_no_names(checkpoints: Path) -> None:
    (checkpoints / "checkpoint-99x").mkdir()
    assert [step for step, _ in checkpoints_in(checkpoints)] == [2, 4, 10]
    found = newest_good(checkpoints, note=pytest.fail)
    assert found is not None
    assert found.step == 10


def test_none_that_is_good_is_refused_with_all_of_them(checkpoints: Path) -> None:
    for step in (2, 4, 10):
        _flip(checkpoints / f"checkpoint-{step}" / "weights.safetensors")
    with pytest.raises(RunError) as refused:
        newest_good(checkpoints, note=lambda text: None)
    assert [f"checkpoint-{step} cannot be used" in str(refused.value) for step in (2, 4, 10)] == (
        [True] * 3
    )


def test_no_checkpoint_yet_is_none(tmp_path: Path) -> None:
    assert newest_good(tmp_path / "checkpoints", note=pytest.fail) is None


def test_one_of_another_run_is_passed_over(checkpoints: Path) -> None:
    notes: list[str] = []
    found = newest_good(
        checkpoints,
        note=notes.append,
        foreign=lambda state: "it is of another run" if state["step"] > 2 else None,
    )
    assert found is not None
    assert found.step == 2
    assert len(notes) == 2


# What a kill leaves.


def test_what_killed_saves_left_is_taken_away(checkpoints: Path) -> None:
    half = checkpoints / ".checkpoint-12.0a1b2c3d"
    shutil.copytree(checkpoints / "checkpoint-10", half)
    (half / "manifest.json").unlink()
    old = checkpoints / ".checkpoint-4.0a1b2c3d"
    shutil.copytree(checkpoints / "checkpoint-10", old)
    (checkpoints / ".hidden").mkdir()
    clear_leftovers(checkpoints)
    assert sorted(path.name for path in checkpoints.iterdir()) == [
        ".hidden",
        "checkpoint-10",
        "checkpoint-2",
        "checkpoint-4",
    ]
    assert fault_of(checkpoints / "checkpoint-4") is None


def test_one_that_lacked_its_name_alone_gets_it(checkpoints: Path) -> None:
    (checkpoints / "checkpoint-10").rename(checkpoints / ".checkpoint-10.0a1b2c3d")
    clear_leftovers(checkpoints)
    found = newest_good(checkpoints, note=pytest.fail)
    assert found is not None
    assert found.step == 10


# Rotation.


@pytest.mark.parametrize(
    ("step", "num_kept", "best", "left"),
    [
        (10, 2, None, [4, 10]),
        (10, 1, None, [10]),
        (10, 1, 2, [2, 10]),
        (10, 2, 2, [2, 4, 10]),
        (10, 1, 10, [4, 10]),
        (10, None, None, [2, 4, 10]),
        # A broken one of a later step counts for nothing.
        (4, 1, None, [4, 10]),
    ],
)
def test_the_oldest_go_and_the_best_stays(
    checkpoints: Path, step: int, num_kept: int | None, best: int | None, left: list[int]
) -> None:
    rotate(checkpoints, step=step, num_kept=num_kept, best=best)
    assert [number for number, _ in checkpoints_in(checkpoints)] == left
    assert not any(path.name.startswith(".") for path in checkpoints.iterdir())


# A full disk.


@pytest.fixture
def small_files() -> Any:
    """No file may become larger than this, as where a disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Without it the signal ends the process; ignored, writing fails with EFBIG.
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_what_does_not_fit_leaves_nothing_behind(checkpoints: Path, small_files: None) -> None:
    parameters = {
        "a": torch.nn.Parameter(torch.zeros(10)),
        "b": torch.nn.Parameter(torch.zeros(5000)),
    }
    with (
        pytest.raises(RunError, match=r"weights: cannot be written: File too large"),
        atomic_directory(checkpoints / "checkpoint-12") as building,
    ):
        content.write_weights(building, parameters)
    assert sorted(path.name for path in checkpoints.iterdir()) == [
        "checkpoint-10",
        "checkpoint-2",
        "checkpoint-4",
    ]
    assert newest_good(checkpoints, note=pytest.fail) is not None


def test_a_full_disk_is_said_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any, tensor: torch.Tensor) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TensorWriter, "write", full)
    with pytest.raises(RunError, match=r"(?s)no space left on the device.*Free some space"):
        content.write_weights(tmp_path, {"a": torch.nn.Parameter(torch.zeros(10))})
