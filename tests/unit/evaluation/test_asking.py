"""Questions: which are asked, what they refer to, and boxes back in the pixels of the files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sightline.config.load import config_of
from sightline.evaluation.asking import Asked, ask, in_picture, questions_of
from sightline.evaluation.prediction import Located
from sightline.evaluation.reading import FoundObject
from sightline.geometry import BoxFrame
from sightline.model import open_checkpoint
from sightline.preparation import make_encoder, prepare_data

SIZES = {"small": (84, 112), "large": (168, 112), "twin": (84, 112)}
BOXES = '[{"bbox_2d": [10, 20, 30, 40], "label": "cat"}]'


@pytest.fixture
def asked(tiny_folder, tmp_path: Path) -> Callable[..., list[Asked]]:
    """Rows of pictures and turns as questions of Qwen2.5-VL, or of another family."""
    for name, size in SIZES.items():
        Image.new("RGB", size).save(tmp_path / f"{name}.png")

    def make(
        turns: list[str],
        *pictures: str,
        which: Any = "last",
        family: str = "qwen2_5_vl",
        **source: Any,
    ) -> list[Asked]:
        said = [
            {"from": "gpt" if number % 2 else "human", "value": text}
            for number, text in enumerate(turns)
        ]
        row = {"image": [f"{name}.png" for name in pictures], "conversations": said}
        path = tmp_path / "rows.jsonl"
        path.write_text(json.dumps(row) + "\n", encoding="utf-8")
        model = str(tiny_folder(family))
        data = {"train": [{"path": str(path), **source}], "processes": 1}
        values = {"model": model, "data": data, "output": str(tmp_path / "run")}
        checkpoint = open_checkpoint(model)
        part = prepare_data(config_of(values, tmp_path), checkpoint).train
        encoder, space = make_encoder(checkpoint), checkpoint.family.box_space
        return [
            ask(question, part.samples, encoder, space=space, sources=["rows"])
            for question in questions_of(part.samples, which)
        ]

    return make


def test_boxes_that_are_text_are_in_the_space_of_the_family(asked) -> None:
    """84 pixels of width are seen as 84; a thousandth is of each side."""
    [one] = asked(["<image>Find it.", BOXES], "small")
    assert one.annotated == (Located(label="cat", numbers=(10, 20, 30, 40)),)
    [one] = asked(["<image>Find it.", BOXES], "small", family="qwen2_vl")
    [found] = one.annotated
    assert found.numbers == pytest.approx((0.84, 2.24, 2.52, 4.48))


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_declared_boxes_are_exact_in_every_family(asked, family: str) -> None:
    [one] = asked(["<image>Find it.", BOXES], "large", family=family, text_boxes="pixels")
    assert [(item.label, item.numbers) for item in one.annotated] == [("cat", (10, 20, 30, 40))]
    assert one.words == "<image>Find it."
    assert one.media[0] | {"path": ""} == {
        "kind": "image",
        "path": "",
        "width": 168,
        "height": 112,
        "seen_width": one.prompt.images[0].resized[1],
        "seen_height": one.prompt.images[0].resized[0],
    }


def test_of_pictures_of_two_sizes_it_is_not_known_where_a_box_is(asked) -> None:
    [one] = asked(["<image><image>Find it.", BOXES], "small", "large")
    assert one.frame is None
    assert one.annotated == ()
    [one] = asked(["<image><image>Find it.", BOXES], "small", "twin")
    assert one.frame is not None
    assert (one.frame.file_width, one.frame.file_height) == (84, 112)


def test_a_box_is_in_the_picture_of_the_last_question_that_brings_one(asked) -> None:
    first, second, third = asked(
        ["<image>What?", "A.", "<image>Find it.", BOXES, "And now?", BOXES],
        "small",
        "large",
        which="all",
    )
    widths = [one.frame.file_width for one in (first, second, third)]
    assert widths == [84, 168, 168]
    assert [one.turn for one in (first, second, third)] == [1, 3, 5]
    assert [one.words for one in (first, second, third)] == ["<image>What?", "<image>Find it.",
                                                              "And now?"]  # fmt: skip
    assert [len(one.media) for one in (first, second, third)] == [1, 2, 2]
    assert third.annotation == BOXES


@pytest.mark.parametrize(
    ("space", "numbers", "wanted"),
    [
        ("thousandths", (250, 500, 500, 1000), (100, 100, 200, 200)),
        ("resized_pixels", (98, 98, 196, 196), (100, 100, 200, 200)),
        ("thousandths", (250, 500), (100, 100)),
        ("resized_pixels", (98, 49), (100, 50)),
    ],
)
def test_answers_go_back_to_the_file_each_axis_by_itself(
    space: Any, numbers: tuple, wanted: tuple
) -> None:
    frame = BoxFrame(
        space=space, file_height=200, file_width=400, resized_height=196, resized_width=392
    )
    found = FoundObject(label="cat", numbers=numbers, start=0, stop=1)
    placed = in_picture(found, frame, 0.25)
    assert placed.numbers == pytest.approx(wanted)
    assert (placed.label, placed.score, placed.is_box) == ("cat", 0.25, len(wanted) == 4)
