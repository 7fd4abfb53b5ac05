"""What damages boxes is found, said with its evidence, and mended by the key that is named."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

SIZES = ((640, 400), (420, 600), (900, 500), (300, 560))
LARGE = ((1300, 1100), (2400, 1500), (1200, 1600), (1030, 2000))
NUM_ROWS = 48
_ROTATED_BY_EXIF = 6

pytestmark = pytest.mark.usefixtures("unestimated")


def _boxes(width: int, height: int, chosen: random.Random) -> list[list[int]]:
    """Two boxes of a picture; in one of three pictures one reaches the lower right corner."""
    made = []
    for _ in range(2):
        x, y = chosen.randrange(width // 2), chosen.randrange(height // 2)
        made.append(
            [x, y, x + chosen.randrange(20, width // 3), y + chosen.randrange(20, height // 3)]
        )
    if chosen.random() < 1 / 3:
        made[1][2:] = width, height
    return made


def _written(box: list[int], size: tuple[int, int], how: str) -> list[float]:
    """A box of the shown picture with a fault planted."""
    (x1, y1, x2, y2), width, longest = box, size[0], max(size)
    return {
        "pixels": [x1, y1, x2, y2],
        "xywh": [x1, y1, x2 - x1, y2 - y1],
        "yxyx": [y1, x1, y2, x2],
        "longest": [round(1000 * n / longest) for n in box],
        "thousandths": [
            round(1000 * n / side) for n, side in zip(box, (*size, *size), strict=True)
        ],
        # EXIF turns by a quarter clockwise: the shown right edge is the stored top.
        "stored": [y1, width - x2, y2, width - x1],
        "reversed": [x2, y2, x1, y1],
    }[how]


def _make(
    folder: Path,
    how: str,
    *,
    objects: bool = False,
    exif: bool = False,
    share: float = 1.0,
    sizes: tuple[tuple[int, int], ...] = SIZES,
) -> None:
    """Rows over pictures of several shapes; ``share`` of them with the fault."""
    chosen = random.Random(11)
    rows = []
    for number in range(NUM_ROWS):
        size = sizes[number % len(sizes)]
        told = Image.Exif()
        if exif:
            told[0x0112] = _ROTATED_BY_EXIF
        stored = size[::-1] if exif else size
        Image.new("RGB", stored).save(folder / f"{number}.jpg", exif=told)
        is_damaged = number < share * NUM_ROWS
        boxes = [
            _written(box, size, how if is_damaged else "pixels") for box in _boxes(*size, chosen)
        ]
        row: dict[str, Any] = {"images": [f"{number}.jpg"]}
        if objects:
            row["objects"] = {"bbox": boxes}
            answer = "<bbox> and <bbox>"
        else:
            answer = json.dumps([{"bbox_2d": box, "label": "a"} for box in boxes])
        question = {"role": "user", "content": f"<image>Where, {number}?"}
        row["messages"] = [question, {"role": "assistant", "content": answer}]
        rows.append(row)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _check(command: Any, folder: Path, **source: Any) -> tuple[list[str], dict[str, Any]]:
    """What check warns of about boxes, and its record."""
    model = source.pop("model", "tiny:qwen2_5_vl")
    told = {"path": str(folder / "rows.jsonl"), **source}
    config = {"model": model, "data": {"train": [told]}, "output": str(folder / "run")}
    (folder / "run.yaml").write_text(json.dumps(config))
    record = json.loads(command("check", folder / "run.yaml", "--json").out)
    return [line for line in record["warnings"] if "boxes" in line], record


@pytest.mark.parametrize(
    ("how", "said", "mended"),
    [
        (
            "xywh",
            "boxes in the text look like x, y, width, height in pixels of the file (96 boxes: "
            "100% inside). As x1, y1, x2, y2, ",
            {"text_boxes": "pixels", "box_layout": "xywh"},
        ),
        (
            "yxyx",
            "boxes in the text look like y1, x1, y2, x2 in pixels of the file (96 boxes: "
            "100% inside). As x1, y1, x2, y2, ",
            {"text_boxes": "pixels", "box_layout": "yxyx"},
        ),
        (
            "longest",
            "boxes in the text look like one factor for both axes, 0 to 1000 of the longer side "
            "(96 boxes: 100% inside, up to ",
            {"text_boxes": "longest"},
        ),
    ],
)
def test_damage_in_the_text(
    how: str, said: str, mended: dict[str, str], command: Any, tmp_path: Path
) -> None:
    _make(tmp_path, how)
    [warning], record = _check(command, tmp_path)
    assert said in warning
    for name, value in mended.items():
        assert f"{name}: {value}" in warning
    assert record["fates"]["kept"] == NUM_ROWS
    warnings, record = _check(command, tmp_path, **mended)
    assert warnings == []
    assert record["fates"]["kept"] == NUM_ROWS


def test_boxes_on_pixels_as_they_are_stored(command: Any, tmp_path: Path) -> None:
    _make(tmp_path, "stored", objects=True, exif=True)
    [warning], record = _check(command, tmp_path)
    assert "boxes lie outside pictures that EXIF turns, and inside their pixels" in warning
    assert warning.endswith("Set box_orientation: stored.")
    assert record["fates"]["quarantined"] > NUM_ROWS // 4
    warnings, record = _check(command, tmp_path, box_orientation="stored")
    assert warnings == []
    assert record["fates"]["kept"] == NUM_ROWS


def test_a_declared_space_that_does_not_fit(command: Any, tmp_path: Path) -> None:
    """ms-swift's objects are pixels unless they say otherwise."""
    _make(tmp_path, "thousandths", objects=True, sizes=LARGE)
    [warning], _ = _check(command, tmp_path)
    assert "boxes are declared as pixels of the file, and look like 0 to 1000 (96 boxes" in warning


def test_declared_boxes_laid_out_otherwise(command: Any, tmp_path: Path) -> None:
    _make(tmp_path, "xywh", objects=True)
    [warning], record = _check(command, tmp_path)
    assert "boxes look like x, y, width, height in pixels of the file" in warning
    assert warning.endswith("Set box_layout: xywh.")
    assert record["fates"]["quarantined"] > 0
    warnings, record = _check(command, tmp_path, box_layout="xywh")
    assert warnings == []
    assert record["fates"]["kept"] == NUM_ROWS


def test_some_corners_out_of_order(command: Any, tmp_path: Path) -> None:
    _make(tmp_path, "reversed", share=0.1)
    [warning], _ = _check(command, tmp_path, model="tiny:qwen3_vl")
    assert "10% of 96 boxes have their corners out of order" in warning


def test_boxes_in_the_middle_are_no_widths_and_heights(command: Any, tmp_path: Path) -> None:
    """Taken for x, y, width, height they would fit: what they lack is a corner out of order."""
    width, height = 640, 400
    rows = []
    for number in range(40):
        Image.new("RGB", (width, height)).save(tmp_path / f"{number}.png")
        x, y = 180 + number * 2, 120 + number
        far = [round(0.54 * width), round(0.54 * height)]
        answer = json.dumps({"bbox_2d": [x, y, *far]})
        turns = [{"from": "human", "value": "<image>Where?"}, {"from": "gpt", "value": answer}]
        rows.append({"image": f"{number}.png", "conversations": turns})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for source in ({"text_boxes": "pixels"}, {}):
        warnings, _ = _check(command, tmp_path, **source)
        assert not [line for line in warnings if "width, height" in line]


@pytest.mark.parametrize(("objects", "exif"), [(False, False), (True, False), (True, True)])
def test_sound_boxes_are_not_warned_of(
    objects: bool, exif: bool, command: Any, tmp_path: Path
) -> None:
    """Also over pictures that EXIF turns."""
    _make(tmp_path, "pixels", objects=objects, exif=exif)
    source = {} if objects else {"text_boxes": "pixels"}
    warnings, record = _check(command, tmp_path, **source)
    assert warnings == []
    assert record["fates"]["kept"] == NUM_ROWS
