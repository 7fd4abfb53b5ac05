from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sightline.data.shapes import write_shapes
from sightline.errors import DataError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"height": 31}, "height: 31 pixels are outside 32 to 8192."),
        ({"width": 8193}, "width: 8193 pixels are outside 32 to 8192."),
        ({"num_images": 0}, "num_images, num_videos and multi_image are all 0"),
        ({"num_images": -1}, "num_images: -1 is below 0."),
        ({"seed": -5}, "seed: -5 is below 0."),
        ({"max_shapes": 0}, "max_shapes: 0 is outside 1 to 64"),
        ({"max_shapes": 65}, "max_shapes: 65 is outside 1 to 64"),
        ({"num_videos": 1, "width": 225}, "width: 225 pixels are odd"),
        ({"num_videos": 1, "num_frames": 1}, "num_frames: 1 frames show no movement"),
        ({"num_videos": 1, "fps": 0.0}, "fps: 0.0 frames per second are outside 0.1 to 240."),
        ({"num_videos": 1, "fps": float("nan")}, "fps: nan frames per second"),
        ({"task": "draw"}, "task: 'draw' is unknown.\nKnown: detect, describe, mixed."),
        ({"layout": "alpaca"}, "Known: official, sharegpt, openai."),
        ({"box_space": "percent"}, "Known: pixels, thousandths."),
    ],
)
def test_refusals_name_the_value(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        write_shapes(tmp_path / "out", **arguments)
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(DataError) as caught:
        write_shapes(tmp_path, num_images=1)
    assert f"{tmp_path}: the folder is not empty: it has 1 entry." in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_file_is_refused(tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.write_text("kept")
    with pytest.raises(DataError, match="is not a folder"):
        write_shapes(taken, num_images=1)
    assert taken.read_text() == "kept"


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(DataError, match="cannot be written: Not a directory"):
        write_shapes(tmp_path / "file" / "out", num_images=1)


def test_odd_sides_are_fine_without_videos(tmp_path: Path) -> None:
    assert write_shapes(tmp_path, num_images=1, width=225, height=33).num_images == 1
