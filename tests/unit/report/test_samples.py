"""Samples with their boxes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sightline.report.pictures import Picture, Unshown
from sightline.report.samples import view_samples


def _predictions(run: Path) -> dict[str, Any]:
    return json.loads((run / "predictions.json").read_text(encoding="utf-8"))


def test_boxes_are_in_pixels_of_the_drawn_picture(tmp_path: Path, maker: Any) -> None:
    run = maker.make_run(tmp_path / "run")
    predictions = _predictions(run)
    maker.draw_picture(tmp_path / "pictures" / "0000.png", [], side=1280)
    sample = view_samples(predictions, root=run).samples[0]
    box = sample.boxes[0]
    assert (box.label, box.x, box.y, box.width, box.height) == ("red circle", 12, 15, 36, 36)


def test_corners_in_any_order(tmp_path: Path, maker: Any) -> None:
    run = maker.make_run(tmp_path / "run")
    predictions = _predictions(run)
    predictions["samples"][0]["annotated_boxes"] = [{"label": "", "box": [96, 102, 24, 30]}]
    box = view_samples(predictions, root=run).samples[0].boxes[0]
    assert (box.x, box.y, box.width, box.height) == (24, 30, 72, 72)


def test_the_control_stands_beside_its_sample(tmp_path: Path, maker: Any) -> None:
    run = maker.make_run(tmp_path / "run")
    view = view_samples(_predictions(run), root=run)
    assert (view.num_equal, view.num_samples, view.control_equal) == (4, 4, 2)
    assert [[answer.equal for answer in sample.answers] for sample in view.samples] == [
        [True, False],
        [True, False],
        [True, True],
        [True, True],
    ]
    assert [row.title for row in view.rows] == [
        "Exported model",
        "The same weights, served with 1-D positions",
    ]


def test_a_predicted_box_that_is_annotated_is_no_stray(tmp_path: Path, maker: Any) -> None:
    run = maker.make_run(tmp_path / "run")
    sample = view_samples(_predictions(run), root=run).samples[1]
    exported, control = sample.answers
    assert exported.strays(sample.boxes) == ()
    assert [box.x for box in control.strays(sample.boxes)] == [5]


def test_alt_text_says_both_kinds_of_boxes(tmp_path: Path, maker: Any) -> None:
    run = maker.make_run(tmp_path / "run")
    control = view_samples(_predictions(run), root=run).samples[1].answers[1]
    assert control.alt == (
        "0001.png. Annotated: green triangle at 57, 3, 105, 51. "
        "Predicted: green triangle at 5, 3, 51, 41."
    )


def test_a_picture_that_is_gone_leaves_the_sample(tmp_path: Path, maker: Any) -> None:
    run = maker.make_run(tmp_path / "run")
    (tmp_path / "pictures" / "0000.png").unlink()
    view = view_samples(_predictions(run), root=run)
    assert isinstance(view.samples[0].pictures[0], Unshown)
    assert view.samples[0].boxes == ()
    assert isinstance(view.samples[1].pictures[0], Picture)


def test_more_than_four_files_are_counted_not_drawn(tmp_path: Path, maker: Any) -> None:
    run = maker.make_run(tmp_path / "run")
    predictions = _predictions(run)
    predictions["samples"][0]["media"] *= 6
    sample = view_samples(predictions, root=run).samples[0]
    assert (len(sample.pictures), sample.num_hidden_media, sample.is_drawable) == (4, 2, False)
