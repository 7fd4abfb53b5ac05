"""Annotated boxes, and boxes redrawn from token text, agree: rotated, huge, tiny, extreme pictures.

From the annotation over the parsed row, the family's text and its token ids, back through the text
that the ids say and the inverse map, into pixels of the file.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sightline.config import RunConfig
from sightline.data import IGNORE_INDEX, EncodedSample
from sightline.evaluation import boxes_in_file
from sightline.geometry import BoxFrame
from sightline.model import Checkpoint, open_checkpoint
from sightline.preparation import prepare_data

FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
# Width and height as shown, and the EXIF orientation that the file carries.
PICTURES = {
    "ordinary": (640, 480, 1),
    "turned by a quarter": (480, 640, 6),
    "turned the other way": (1200, 700, 8),
    "upside down": (500, 300, 3),
    "mirrored": (300, 500, 2),
    "mirrored and turned": (700, 410, 5),
    "huge": (9000, 6000, 1),
    "huge and turned": (5000, 7000, 6),
    "tiny": (40, 36, 1),
    "one patch": (33, 47, 1),
    "a strip": (3000, 40, 1),
    "a turned strip": (40, 2800, 6),
    "a hair from 200 to 1": (8000, 41, 1),
}
_SIDEWAYS = (5, 6, 7, 8)
_MAX_PIXELS = 602_112

Annotated = dict[str, list[list[int]]]


def _annotated(width: int, height: int, chosen: random.Random) -> list[list[int]]:
    """Boxes of 32 pixels and more a side, in order; some reach the edges."""
    boxes = [[0, 0, width, height]]
    for _ in range(6):
        x, y = chosen.randrange(width - 31), chosen.randrange(height - 31)
        boxes.append([x, y, chosen.randint(x + 32, width), chosen.randint(y + 32, height)])
    return boxes


@pytest.fixture(scope="module")
def detection(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Annotated]:
    """Pictures, their boxes, and a data file for each of the ways that people have them."""
    folder = tmp_path_factory.mktemp("detection")
    return folder, _write(folder)


def _write(folder: Path) -> Annotated:
    chosen = random.Random(17)
    annotated: Annotated = {}
    rows: dict[str, list[dict[str, Any]]] = {"objects": [], "text": []}
    coco: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    for number, (name, (width, height, orientation)) in enumerate(PICTURES.items()):
        size = (height, width) if orientation in _SIDEWAYS else (width, height)
        exif = Image.Exif()
        exif[0x0112] = orientation
        # Grey, one colour: quick to write at any size.
        Image.new("L", size, 90).save(folder / f"{number}.png", exif=exif)
        boxes = annotated[name] = _annotated(width, height, chosen)
        coco["images"].append(
            {"id": number, "file_name": f"{number}.png", "width": width, "height": height}
        )
        for x1, y1, x2, y2 in boxes:
            annotation = {"id": len(coco["annotations"]) + 1, "image_id": number, "category_id": 1}
            coco["annotations"].append(annotation | {"bbox": [x1, y1, x2 - x1, y2 - y1]})
        answer = json.dumps([{"bbox_2d": box, "label": "a"} for box in boxes])
        picture = {"images": [f"{number}.png"]}
        rows["text"].append({"messages": _turns(answer), **picture})
        marks = " ".join("<bbox>" for _ in boxes)
        rows["objects"].append({"messages": _turns(marks), **picture, "objects": {"bbox": boxes}})
    (folder / "coco.json").write_text(json.dumps(coco))
    for how, lines in rows.items():
        (folder / f"{how}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    return annotated


def _turns(answer: str) -> list[dict[str, str]]:
    question = {"role": "user", "content": "<image>Report bbox_2d in JSON."}
    return [question, {"role": "assistant", "content": answer}]


def _samples(
    folder: Path, output: Path, checkpoint: Checkpoint, how: str, max_length: int | None
) -> list[EncodedSample]:
    source: dict[str, Any] = {"path": str(folder / f"{how}.jsonl")}
    if how == "text":
        source["text_boxes"] = "pixels"
    if how == "coco":
        source = {"path": str(folder / "coco.json")}
    data = {"train": [source], "max_length": max_length, "fit": ["shrink"], "vision_share": 0.3}
    config = RunConfig.model_validate(
        {"model": "x", "data": data | {"processes": 1}, "output": str(output / "run")}
    )
    samples = prepare_data(config, checkpoint).train.samples
    return [samples[index] for index in range(len(samples))]


def _redrawn(sample: EncodedSample, checkpoint: Checkpoint) -> list[list[float]]:
    """Boxes of the supervised tokens, in pixels of the file."""
    [image] = sample.images
    frame = BoxFrame(
        space=checkpoint.family.box_space,
        file_height=image.height,
        file_width=image.width,
        resized_height=image.resized[0],
        resized_width=image.resized[1],
    )
    said = sample.input_ids[sample.labels != IGNORE_INDEX]
    text = checkpoint.processor.tokenizer.decode(said, skip_special_tokens=False)
    if "<|box_start|>" not in text and "bbox_2d" not in text:
        # ms-swift's <bbox> is a bare list in two of the families.
        text = text.replace("[", '{"bbox_2d": [').replace("]", "]}")
    return [box["box"] for box in boxes_in_file(text, frame)]


def _iou(one: list[int], other: list[float]) -> float:
    a, b = np.array(one, dtype=float), np.array(other)
    shared = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))
    return float(shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared))


@pytest.mark.parametrize("family", FAMILY_KEYS)
@pytest.mark.parametrize("how", ["coco", "objects", "text"])
@pytest.mark.parametrize("is_shrunk", [False, True], ids=["whole", "shrunk"])
def test_boxes_agree(
    family: str,
    how: str,
    is_shrunk: bool,
    tiny_folder: Callable[[str], Path],
    detection: tuple[Path, Annotated],
    tmp_path: Path,
) -> None:
    folder, annotated = detection
    checkpoint = open_checkpoint(str(tiny_folder(family)), _limits())
    samples = _samples(folder, tmp_path, checkpoint, how, None)
    assert len(samples) == len(PICTURES)
    if is_shrunk:
        whole = samples
        longest = max(sample.num_tokens for sample in samples)
        samples = _samples(folder, tmp_path, checkpoint, how, longest - 200)
        assert len(samples) == len(PICTURES)
        pairs = zip(samples, whole, strict=True)
        assert any(one.images[0].resized != other.images[0].resized for one, other in pairs)
    overlaps: list[float] = []
    for name, sample in zip(PICTURES, samples, strict=True):
        redrawn = _redrawn(sample, checkpoint)
        assert len(redrawn) == len(annotated[name]), name
        for box, again in zip(annotated[name], redrawn, strict=True):
            _inside_half_a_step(box, again, sample, checkpoint, name)
            overlaps.append(_iou(box, again))
    assert np.mean(overlaps) >= 0.97


def _limits() -> Any:
    from sightline.config import DataConfig

    return DataConfig.model_validate({"train": "x", "images": {"max_pixels": _MAX_PIXELS}})


def _inside_half_a_step(
    box: list[int], again: list[float], sample: EncodedSample, checkpoint: Checkpoint, name: str
) -> None:
    """Every side is off by no more than half a step of the numbers that the family writes."""
    [image] = sample.images
    sides = image.width, image.height
    steps = image.resized[::-1]
    if checkpoint.family.box_space == "thousandths":
        steps = (1000, 1000)
    for place, (wanted, found) in enumerate(zip(box, again, strict=True)):
        step = sides[place % 2] / steps[place % 2]
        assert abs(wanted - found) <= step / 2 + 0.01, (name, box, again)
