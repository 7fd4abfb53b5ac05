"""A rehearsal holds where the parts fit, and tells every planted fault at its joint."""

from __future__ import annotations

import functools
import json
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from sightline.checks.joints import TITLES
from sightline.data.encode import Encoder
from sightline.data.shapes import write_shapes
from sightline.records import read_json, write_json
from sightline.training import exporting
from sightline.training.steps import _MicroBatches

Rehearse = Callable[..., dict[str, Any]]


class Bench:
    """Rehearses a configuration on a tiny model, in this process; the verification has its own."""

    def __init__(self, command: Any, folder: Path, model: Path) -> None:
        self._command = command
        self.folder = folder
        self._model = model
        self.outcome: Any = None

    def __call__(
        self, source: dict[str, Any], *, samples: int = 1, steps: int = 150, **changes: Any
    ) -> dict[str, Any]:
        settings: dict[str, Any] = {
            "model": str(self._model),
            "data": {"train": [source]},
            "tuning": {"language": "lora", "head": "lora", "lora": {"rank": 16, "alpha": 192}},
            "training": {
                "learning_rate": 4e-3,
                "gradient_accumulation": 1,
                "precision": "fp32",
                "gradient_checkpointing": False,
            },
            "output": str(self.folder / "run"),
        }
        config = self.folder / "run.yaml"
        config.write_text(yaml.safe_dump(settings | changes), encoding="utf-8")
        self.outcome = self._command(
            "rehearse", config, "--samples", samples, "--max-steps", steps, "--json"
        )
        assert self.outcome.code in (0, 1), self.outcome.err
        record = json.loads(self.outcome.out)
        assert record == read_json(self.folder / "run-rehearsal" / "rehearsal.json")
        assert [joint["id"] for joint in record["joints"]] == list(TITLES)
        assert self.outcome.code == (record["verdict"] != "holds")
        return record


@pytest.fixture
def bench(command: Any, tmp_path: Path, tiny_folder: Any) -> Bench:
    """See `Bench`."""
    return Bench(command, tmp_path, tiny_folder("qwen2_5_vl"))


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory, shapes_rows: list[dict]) -> dict[str, Any]:
    """A source of one picture with boxes."""
    return _source(tmp_path_factory.mktemp("one") / "one.jsonl", shapes_rows[:1])


def _source(path: Path, rows: list[dict]) -> dict[str, Any]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {"path": str(path), "allow_outside": True}


def _states(record: dict[str, Any]) -> dict[str, str]:
    return {joint["id"]: joint["state"] for joint in record["joints"]}


def _fails_at(record: dict[str, Any], joint: str) -> dict[str, Any]:
    """The joint, which is the first that failed, with all that has to be told of it."""
    assert record["failed_at"] == joint, _states(record)
    [found] = [one for one in record["joints"] if one["id"] == joint]
    assert found["seen"]
    assert found["advice"]
    return found


# Nothing planted.


def test_pictures_a_video_and_boxes_hold_and_a_second_time_replaces_the_first(
    bench: Bench, tmp_path: Path, shapes_rows: list[dict]
) -> None:
    """The run's own directory is never made; samples of every kind are among the three."""
    data = _source(tmp_path / "train.jsonl", shapes_rows)
    record = bench(data, samples=3, steps=300)
    states = _states(record)
    assert {name for name, state in states.items() if state != "ok"} == {"packing"}
    assert states["packing"] == "info"
    assert record["num_conversations"] == 7
    kinds = {kind for sample in record["samples"] for kind in sample["kinds"]}
    assert {"image", "video", "several images", "boxes"} <= kinds
    assert record["left_out"] == []
    for sample in record["samples"]:
        assert sample["loss"] < record["loss_limit"]
        assert sample["num_wrong"] == 0
        assert sample["num_tokens"] > 2
    assert record["num_steps"] < 300
    assert not (tmp_path / "run").exists()
    folder = tmp_path / "run-rehearsal"
    assert (folder / "merged" / "config.json").is_file()
    assert not list((folder / "checkpoints").glob("*"))
    # Figures of something: every way was asked.
    checks = {one["id"]: one for one in read_json(folder / "certificate.json")["checks"]}
    known = checks["answers.memorised"]["figures"]
    assert known["num_tokens"] > 30
    ways = {"without the cache": 0, "with the cache": 0, "through the adapter": 0}
    assert known["num_wrong"] == ways
    assert checks["answers.trained"]["figures"] == {"num_exact": 3, "num_samples": 3}

    (folder / "stale").touch()
    assert bench(data, samples=1, steps=1)["num_steps"] == 1
    assert not (folder / "stale").exists()


def test_packed_rows_and_stages_are_rehearsed(bench: Bench, tmp_path: Path, shapes_rows) -> None:
    """Stages are one from the start: what would join late trains too."""
    record = bench(
        _source(tmp_path / "train.jsonl", shapes_rows[:2]),
        samples=2,
        steps=200,
        tuning={
            "head": "lora",
            "lora": {"rank": 16, "alpha": 192},
            "stages": [
                {"until": "50%", "language": "freeze", "projector": "full"},
                {"language": "lora", "projector": "freeze"},
            ],
        },
        training={
            "learning_rate": 4e-3,
            "batch_size": 2,
            "gradient_accumulation": 1,
            "precision": "fp32",
            "gradient_checkpointing": False,
        },
    )
    states = _states(record)
    assert set(states.values()) == {"ok"}, states
    plan = read_json(tmp_path / "run-rehearsal" / "plan.json")
    assert [stage["name"] for stage in plan["stages"]] == ["rehearsal"]
    trains = {row["tower"] for row in plan["rows"] if row["num_trainable"]}
    assert trains == {"projector", "language", "head"}


# Faults of training.


def test_a_forward_that_drops_height_and_width(
    bench: Bench, picture: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every batch has three axes, and what computes it takes one: loss and answers are exact."""
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLTextModel

    forward = Qwen2_5_VLTextModel.forward

    @functools.wraps(forward)
    def flat(self: Any, *args: Any, position_ids: Any = None, **kwargs: Any) -> Any:
        if position_ids is not None and position_ids.shape[-1] > 1:
            length = position_ids.shape[-1]
            position_ids = torch.arange(length).expand(4, 1, length)
        return forward(self, *args, position_ids=position_ids, **kwargs)

    monkeypatch.setattr(Qwen2_5_VLTextModel, "forward", flat)
    record = bench(picture)
    found = _fails_at(record, "positions")
    assert "with 1-D positions they are equal" in found["where"]
    states = _states(record)
    assert [states[name] for name in ("loss", "reload", "merge")] == ["ok"] * 3
    assert "1-D positions" in found["advice"]


def test_a_forward_that_places_otherwise(
    bench: Bench, picture: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not flat, only other: a fresh process cannot compute what this one did."""
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLTextModel

    forward = Qwen2_5_VLTextModel.forward

    @functools.wraps(forward)
    def stretched(self: Any, *args: Any, position_ids: Any = None, **kwargs: Any) -> Any:
        if position_ids is not None:
            position_ids = position_ids * torch.tensor([1, 1, 3, 2])[:, None, None]
        return forward(self, *args, position_ids=position_ids, **kwargs)

    monkeypatch.setattr(Qwen2_5_VLTextModel, "forward", stretched)
    record = bench(picture)
    assert "logits differ by" in _fails_at(record, "process")["seen"]
    assert [_states(record)[name] for name in ("loss", "answers", "merge")] == ["ok"] * 3


def test_packed_samples_that_see_each_other(
    bench: Bench, tmp_path: Path, shapes_rows: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attention is never told where the samples of a row begin, nor has it a row to see it by."""
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLTextModel

    from sightline.training import packing

    forward = Qwen2_5_VLTextModel.forward

    @functools.wraps(forward)
    def without_text_row(self: Any, *args: Any, position_ids: Any = None, **kwargs: Any) -> Any:
        return forward(self, *args, position_ids=position_ids[-3:], **kwargs)

    monkeypatch.setattr(Qwen2_5_VLTextModel, "forward", without_text_row)
    monkeypatch.setattr(packing, "packed_row", lambda segments: nullcontext())
    two = {"batch_size": 2, "gradient_accumulation": 1, "precision": "fp32"}
    source = _source(tmp_path / "train.jsonl", shapes_rows[:2])
    found = _fails_at(bench(source, samples=2, training=two), "packing")
    assert "packed samples see each other" in found["seen"]
    assert found["advice"] == "Set training.packing to off."


def test_a_batch_with_positions_of_text(
    bench: Bench, picture: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard ends the training before a step; nothing after it was looked at."""
    from sightline.data import collate

    place = collate.place_layouts

    def flat(*args: Any, **kwargs: Any) -> Any:
        placed = place(*args, **kwargs)
        length = placed.model_position_ids.shape[-1]
        ids = np.broadcast_to(np.arange(length), placed.model_position_ids.shape).copy()
        return placed._replace(model_position_ids=ids)

    monkeypatch.setattr(collate, "place_layouts", flat)
    record = bench(picture)
    found = _fails_at(record, "positions")
    assert "1-D positions on" in found["seen"]
    assert _states(record)["loss"] == "unseen"


def test_labels_on_the_prompt(
    bench: Bench, picture: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = Encoder.encode

    def everything(self: Encoder, *args: Any, **kwargs: Any) -> Any:
        sample = encode(self, *args, **kwargs)
        is_vision = np.zeros(sample.num_tokens, dtype=bool)
        for where, _ in sample.layout.vision_spans:
            is_vision[where] = True
        return replace(sample, labels=np.where(is_vision, -100, sample.input_ids))

    monkeypatch.setattr(Encoder, "encode", everything)
    # What was counted when the data were read tells it even earlier.
    found = _fails_at(bench(picture), "data")
    assert "tokens are supervised now" in found["seen"]
    monkeypatch.setattr(_MicroBatches, "_refuse_other_count", lambda self, micro, found: None)
    found = _fails_at(bench(picture, steps=60), "template")
    assert "labels spell" in found["where"]
    assert "user" in found["where"]


def test_a_plan_that_freezes_what_is_needed(bench: Bench, picture: dict[str, Any]) -> None:
    norms = {"mode": "freeze", "parts": [{"blocks": 0, "kind": "norm", "mode": "full"}]}
    record = bench(
        picture,
        steps=40,
        tuning={"language": "freeze", "projector": "freeze", "vision": norms},
    )
    found = _fails_at(record, "loss")
    assert "of the weights train, in vision" in found["advice"]
    assert record["is_learned"] is False
    # What compares the export with the training holds all the same.
    states = _states(record)
    assert [states[name] for name in ("plan", "reload", "process", "batch")] == ["ok"] * 4


@pytest.mark.parametrize("declared", [None, "resized"])
def test_boxes_in_the_wrong_space(bench: Bench, tmp_path: Path, declared: str | None) -> None:
    """Pixels of the file, which Qwen2.5-VL takes for pixels of the resized picture."""
    write_shapes(tmp_path / "large", num_images=1, height=224, width=224, max_shapes=2)
    path = tmp_path / "large" / "train.jsonl"
    row = json.loads(path.read_text("utf-8"))
    answer = '[{"bbox_2d": [150, 160, 220, 221], "label": "corner"}]'
    row["conversations"][1]["value"] = answer
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    source: dict[str, Any] = {"path": str(path)}
    images = {"images": {"max_pixels": 112 * 112, "min_pixels": 3136}}
    if declared is None:
        found = _fails_at(bench(source, data={"train": [source], **images}), "boxes")
        outside = "[150, 160, 220, 221] is outside its picture (112 x 112 as the model sees it)"
        assert outside in found["where"]
        assert "text_boxes" in found["advice"]
    else:
        # Said to be what they are, they are written as the family writes them.
        source["text_boxes"] = "pixels"
        record = bench(source, data={"train": [source], **images})
        assert _states(record)["boxes"] == "ok"
        [boxes] = [joint for joint in record["joints"] if joint["id"] == "boxes"]
        assert "1 in the answers" in boxes["seen"]


# Faults of the export.


def _after_saving(monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None]) -> None:
    save = exporting.save_merged

    def spoiled(merged: Any, checkpoint: Any, folder: Path) -> None:
        save(merged, checkpoint, folder)
        spoil(folder)

    monkeypatch.setattr(exporting, "save_merged", spoiled)


def test_a_saved_processor_with_another_pixel_budget(
    bench: Bench, picture: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def halve(folder: Path) -> None:
        record = read_json(folder / "processor_config.json")
        record["image_processor"]["size"]["longest_edge"] = 112 * 168 // 2
        write_json(folder / "processor_config.json", record)

    _after_saving(monkeypatch, halve)
    record = bench(picture)
    found = _fails_at(record, "pixels")
    assert "image" in found["where"]
    states = _states(record)
    assert states["loss"] == "ok"
    assert states["cache"] == states["batch"] == "unseen"


def test_a_merged_weight_that_was_changed(
    bench: Bench, picture: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nudge(folder: Path) -> None:
        path = folder / "model.safetensors"
        tensors = load_file(str(path))
        name = next(name for name in tensors if name.endswith("layers.0.mlp.up_proj.weight"))
        tensors[name] *= 1.5
        save_file(tensors, str(path), metadata={"format": "pt"})

    _after_saving(monkeypatch, nudge)
    found = _fails_at(bench(picture), "reload")
    assert "1 of" in found["seen"]
    assert "mlp.up_proj" in found["where"]


def test_a_merge_that_is_wrong(
    bench: Bench, picture: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    merge = exporting.merge

    def half(model: Any, dtype: torch.dtype) -> Any:
        for name, tensor in model.named_parameters():
            if "lora_B" in name:
                tensor.data *= 0.5
        return merge(model, dtype)

    monkeypatch.setattr(exporting, "merge", half)
    # The adapter is saved before it.
    record = bench(picture)
    assert _states(record)["reload"] == "ok"
    assert "logits differ by" in _fails_at(record, "merge")["seen"]


def test_an_export_that_cannot_be_loaded(
    bench: Bench, picture: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _after_saving(monkeypatch, lambda folder: (folder / "config.json").unlink())
    found = _fails_at(bench(picture, steps=2), "loss")
    [reload] = [
        one
        for one in read_json(bench.folder / "run-rehearsal/rehearsal.json")["joints"]
        if one["id"] == "reload"
    ]
    assert found["state"] == reload["state"] == "failed"
    assert "config.json" in reload["seen"]


# Bad input.


def test_what_cannot_be_rehearsed(command: Any, tmp_path: Path, picture: dict[str, Any]) -> None:
    """One message, exit code 2, and nothing of the user's is touched."""
    output = tmp_path / "run"
    config = tmp_path / "run.yaml"
    settings = {"model": "tiny:qwen2_5_vl", "data": {"train": [picture]}, "output": str(output)}
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")

    def refused(*options: object) -> str:
        outcome = command("rehearse", config, *options)
        assert outcome.code == 2, outcome.out
        assert outcome.out == ""
        return outcome.err

    assert "--samples 0: a rehearsal learns 1 to 64 samples" in refused("--samples", 0)
    assert "the output of the run itself" in refused("--output", output)
    own = tmp_path / "run-rehearsal"
    own.mkdir()
    (own / "thesis.txt").write_text("mine", encoding="utf-8")
    assert "something is there that is no rehearsal" in refused()
    assert (own / "thesis.txt").read_text("utf-8") == "mine"
    shutil.rmtree(own)
    assert "missing.jsonl" in refused("--set", "data.train=missing.jsonl")
    assert not own.exists()


def test_a_rehearsal_that_is_stopped_begins_anew(
    started: Any, tmp_path: Path, tiny_folder: Any, picture: dict[str, Any]
) -> None:
    """Ctrl-C: one message that says so, and a folder that the next one may replace."""
    config = tmp_path / "run.yaml"
    settings = {
        "model": str(tiny_folder("qwen2_5_vl")),
        "data": {"train": [picture]},
        "training": {"gradient_accumulation": 1},
        "output": str(tmp_path / "run"),
    }
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    process = started("-m", "sightline", "rehearse", config, "--max-steps", 100000)
    metrics = tmp_path / "run-rehearsal" / "metrics.jsonl"
    try:
        until = time.monotonic() + 90
        while not metrics.is_file() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.1)
        assert metrics.is_file()
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, told
    assert "the rehearsal was stopped. Start it again: it begins anew." in told
    assert "resume" not in told
    assert "rehearsal" in read_json(tmp_path / "run-rehearsal" / "run.json")
