"""The probe: what is saved comes back, and what is broken is refused."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sightline.errors import RunError, SightlineError, VerifyError
from sightline.evaluation import Answer, Probe, ProbeSample, SeenPixels, load_probe, save_probe
from sightline.geometry import PixelRecipe, PixelRecipes
from sightline.records import RunDirectory

RECIPE = PixelRecipe(
    backend="torch",
    resample="bicubic",
    rescale_factor=1 / 255,
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.25, 0.3),
)
PROMISE = "Train the run again; verification has nothing to compare with."


def _sample(index: int) -> ProbeSample:
    return ProbeSample(
        index=index,
        file="数据/train.jsonl",
        line=index + 1,
        messages=[
            {"role": "user", "content": [{"type": "image", "image": "/a.png"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "红"}]},
        ],
        max_new_tokens=9 + index,
        pixels=SeenPixels(grids=[[1, 4, 6 + index]], digest="0a"),
        answer_ids=[7, 8],
        answer_gaps=[0.25, 1e-7],
        input_ids=torch.tensor([1, 2, 3, 7 + index, 8]),
        labels=torch.tensor([-100, -100, -100, 7 + index, 8]),
        position_ids=torch.arange(15).reshape(3, 5) + index,
        columns=torch.tensor([2, 3]),
        logits=torch.tensor([[0.1, -0.2], [1e-8, 3.0]]) + index,
    )


def _probe() -> Probe:
    return Probe(
        samples=[_sample(0), _sample(5)],
        base="/models/base",
        dtype="float32",
        uses_adapter=True,
        preparation={"image_budget.max_pixels": 50176, "boxes.space": "thousandths"},
        recipes=PixelRecipes(image=RECIPE, video=replace(RECIPE, resample="bilinear")),
        exported_fingerprints={"a.weight": "00ff", "b.weight": "11ee"},
        frozen_fingerprints={"a.weight": "00ff"},
        num_watched=3,
        without_gradient=["c.weight"],
    )


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    made = RunDirectory.create(tmp_path / "run")
    save_probe(made, _probe())
    return made


def _names(run: RunDirectory) -> list[str]:
    """Files of the run beside its state."""
    return sorted(path.name for path in run.path.iterdir() if path != run.state_file)


def _change(run: RunDirectory, change: Callable[[Any], Any]) -> None:
    record = json.loads(run.probe.read_text(encoding="utf-8"))
    run.probe.write_text(json.dumps(change(record)), encoding="utf-8")


def test_a_probe_comes_back_as_it_was_saved(run: RunDirectory) -> None:
    loaded, saved = load_probe(run), _probe()
    for item in fields(Probe):
        if item.name != "samples":
            assert getattr(loaded, item.name) == getattr(saved, item.name), item.name
    assert len(loaded.samples) == 2
    for one, other in zip(loaded.samples, saved.samples, strict=True):
        for item in fields(ProbeSample):
            here, there = getattr(one, item.name), getattr(other, item.name)
            if isinstance(there, torch.Tensor):
                assert here.dtype == there.dtype, item.name
                assert torch.equal(here, there), item.name
            else:
                assert here == there, item.name
    assert loaded.samples[0].trained_answer == Answer([7, 8], [0.25, 1e-7])
    assert _names(run) == ["probe.json", "probe.safetensors"]


def test_a_probe_may_be_saved_again(run: RunDirectory) -> None:
    save_probe(run, Probe(samples=[_sample(3)], base="b", dtype="bfloat16", uses_adapter=False))
    loaded = load_probe(run)
    assert [sample.index for sample in loaded.samples] == [3]
    assert (loaded.dtype, loaded.uses_adapter, loaded.num_watched) == ("bfloat16", False, 0)


def test_slices_of_larger_tensors_can_be_saved(run: RunDirectory) -> None:
    """The training process gives rows of a batch: views that do not own their memory."""
    batch = torch.arange(40).reshape(4, 2, 5)
    sample = replace(
        _sample(0), position_ids=batch[1:, 0], input_ids=batch[0, 0], labels=batch[0, 1]
    )
    save_probe(run, Probe(samples=[sample], base="b", dtype="f", uses_adapter=False))
    assert torch.equal(load_probe(run).samples[0].position_ids, batch[1:, 0])


@pytest.mark.parametrize("content", [b"", b"not safetensors", None])
def test_broken_tensors_are_refused(run: RunDirectory, content: bytes | None) -> None:
    whole = run.probe_tensors.read_bytes()
    run.probe_tensors.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(VerifyError) as refused:
        load_probe(run)
    assert str(refused.value).startswith(f"{run.probe_tensors}: the probe of this run is broken: ")
    assert str(refused.value).endswith(PROMISE)


def test_tensors_that_are_not_there_are_refused(run: RunDirectory) -> None:
    run.probe_tensors.unlink()
    with pytest.raises(VerifyError, match="the probe of this run is broken"):
        load_probe(run)


@pytest.mark.parametrize("name", ["0.input_ids", "1.labels", "0.position_ids", "1.logits"])
def test_a_missing_tensor_is_refused_by_name(run: RunDirectory, name: str) -> None:
    tensors = load_file(str(run.probe_tensors))
    del tensors[name]
    save_file(tensors, str(run.probe_tensors))
    with pytest.raises(VerifyError, match=f"broken: '{name}'"):
        load_probe(run)


def test_a_missing_or_broken_record_is_refused(run: RunDirectory) -> None:
    run.probe.write_text('{"schema": 1,')
    with pytest.raises(RunError, match=r"probe\.json: the file is broken"):
        load_probe(run)
    run.probe.unlink()
    with pytest.raises(RunError, match=r"probe\.json: the file is missing"):
        load_probe(run)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda record: [], id="a list"),
        pytest.param(lambda record: {}, id="no samples"),
        pytest.param(lambda record: {**record, "samples": [{}]}, id="an empty sample"),
        pytest.param(lambda record: {**record, "new": 1}, id="a field of another release"),
        pytest.param(
            lambda record: {key: value for key, value in record.items() if key != "base"},
            id="no base",
        ),
        pytest.param(
            lambda record: {**record, "samples": [{**record["samples"][0], "new": 1}]},
            id="a sample of another release",
        ),
    ],
)
def test_a_record_of_another_shape_is_refused(run: RunDirectory, change) -> None:
    _change(run, change)
    with pytest.raises(VerifyError, match="the probe of this run is broken"):
        load_probe(run)


def test_a_full_disk_leaves_no_half_a_probe(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=65536", "tmpfs", str(disk)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine does not let root mount a tmpfs")
    try:
        run = RunDirectory.create(disk / "run")
        sample = replace(_sample(0), logits=torch.zeros(2, 100_000))
        large = Probe(samples=[sample], base="b", dtype="float32", uses_adapter=False)
        with pytest.raises(SightlineError, match="no space left on the device"):
            save_probe(run, large)
        assert _names(run) == []
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
