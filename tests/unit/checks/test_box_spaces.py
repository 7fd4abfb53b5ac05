"""What the numbers of boxes mean is told from the boxes, and a space that does not fit is named."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from sightline.checks.box_spaces import BoxSpaces, told_spaces, warning_of
from sightline.config import RunConfig
from sightline.geometry import resize_image
from sightline.model import Checkpoint, open_checkpoint
from sightline.preparation import prepare_data

SPACES = ("pixels", "unit", "thousandths", "resized")


@pytest.fixture(params=["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def checkpoint(request: pytest.FixtureRequest, tiny_folder: Callable[[str], Path]) -> Checkpoint:
    return open_checkpoint(str(tiny_folder(request.param)))


def told(
    folder: Path,
    checkpoint: Checkpoint,
    space: str,
    *,
    size: tuple[int, int],
    count: int = 40,
    farthest: float = 1.0,
) -> BoxSpaces | None:
    """What is told of boxes over one picture that are written in a space."""
    width, height = size
    Image.new("RGB", size).save(folder / "a.png")
    pre = checkpoint.preprocessing
    full = resize_image(height, width, pre.image_patching, pre.image_budget)
    across, down = {
        "pixels": (width, height),
        "unit": (1, 1),
        "thousandths": (1000, 1000),
        "resized": (full[1], full[0]),
    }[space]
    chosen = random.Random(5)
    lines = []
    for number in range(count):
        x1, y1 = chosen.uniform(0, 0.5), chosen.uniform(0, 0.5)
        x2, y2 = (farthest,) * 2 if number % 4 == 0 else (x1 + 0.2, y1 + 0.2)
        box = [x1 * across, y1 * down, x2 * across, y2 * down]
        box = [round(side, 4 if space == "unit" else 0) for side in box]
        answer = json.dumps([{"bbox_2d": box, "label": f"{number}"}])
        turns = [{"from": "human", "value": "<image>Where?"}, {"from": "gpt", "value": answer}]
        lines.append(json.dumps({"image": "a.png", "conversations": turns}) + "\n")
    (folder / "rows.jsonl").write_text("".join(lines))
    config = RunConfig.model_validate(
        {
            "model": "x",
            "data": {"train": str(folder / "rows.jsonl"), "processes": 1},
            "output": str(folder / "run"),
        }
    )
    files = prepare_data(config, checkpoint).train.files
    return told_spaces(files, checkpoint.preprocessing)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("size", [(320, 200), (640, 480), (2400, 1700)])
def test_the_space_is_told(
    tmp_path: Path, checkpoint: Checkpoint, space: str, size: tuple[int, int]
) -> None:
    spaces = told(tmp_path, checkpoint, space, size=size)
    assert spaces is not None
    assert spaces.num_boxes == 40
    pre = checkpoint.preprocessing
    full = resize_image(size[1], size[0], pre.image_patching, pre.image_budget)
    hardly_resized = max(abs(full[1] / size[0] - 1), abs(full[0] / size[1] - 1)) <= 0.03
    if space in ("pixels", "resized") and hardly_resized:
        assert set(spaces.found) == {"pixels", "resized"}
    else:
        assert spaces.found == (space,)


def test_a_space_that_does_not_fit_is_named_with_its_evidence(
    tmp_path: Path, checkpoint: Checkpoint
) -> None:
    wanted = {"thousandths": "thousandths", "resized_pixels": "resized"}[
        checkpoint.family.box_space
    ]
    for space in SPACES:
        spaces = told(tmp_path, checkpoint, space, size=(2400, 1300))
        assert spaces is not None
        said = warning_of(spaces, checkpoint.family)
        if wanted in spaces.found:
            assert said is None
        else:
            assert said is not None
            # Two where the picture is hardly resized.
            assert space in spaces.found
            assert f"Set text_boxes: {spaces.found[0]}" in said
            assert "40 boxes: 100% inside" in said


def test_too_few_boxes_and_boxes_far_from_every_edge_say_nothing(
    tmp_path: Path, checkpoint: Checkpoint
) -> None:
    assert told(tmp_path, checkpoint, "pixels", size=(640, 480), count=10) is None
    spaces = told(tmp_path, checkpoint, "thousandths", size=(2400, 1700), farthest=0.6)
    assert spaces is not None
    assert spaces.found == ()


@pytest.mark.usefixtures("unestimated")
def test_check_says_it(command, tmp_path: Path) -> None:
    for number in range(30):
        Image.new("RGB", (1000 + number, 700)).save(tmp_path / f"{number}.png")
    rows = [
        {
            "image": f"{number}.png",
            "conversations": [
                {"from": "human", "value": "<image>Where?"},
                {"from": "gpt", "value": f'{{"bbox_2d": [{number}, 2, {1000 + number}, 700]}}'},
            ],
        }
        for number in range(30)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = f"model: tiny:qwen3_vl\ndata: {{train: rows.jsonl}}\noutput: {tmp_path}/run\n"
    (tmp_path / "run.yaml").write_text(run)
    said = json.loads(command("check", tmp_path / "run.yaml", "--json").out)
    [warning] = [line for line in said["warnings"] if "boxes in the text" in line]
    assert "look like pixels of the file" in warning
    assert "Set text_boxes: pixels" in warning
    (tmp_path / "run.yaml").write_text(
        run.replace("rows.jsonl", "{path: rows.jsonl, text_boxes: pixels}")
    )
    said = json.loads(command("check", tmp_path / "run.yaml", "--json").out)
    assert not [line for line in said["warnings"] if "boxes" in line]
    assert said["fates"]["kept"] == 30
