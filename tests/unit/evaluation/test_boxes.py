"""Boxes in answers: whole, cut, nested, and what is no box."""

from __future__ import annotations

import json

import pytest

from sightline.evaluation import LabelledBox, boxes_in_file, find_boxes
from sightline.geometry import BoxFrame


def _found(text: str) -> list[tuple[str, tuple[float, float, float, float]]]:
    return [(item.label, item.box) for item in find_boxes(text)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}]', [("cat", (1, 2, 3, 4))]),
        ('[{"bbox_2d": [1.5, 2, 3, 4]}]', [("", (1.5, 2, 3, 4))]),
        (
            'Here: [{"label": "a", "bbox_2d": [1, 2, 3, 4]},\n {"bbox_2d": [5, 6, 7, 8]}]. Done.',
            [("a", (1, 2, 3, 4)), ("", (5, 6, 7, 8))],
        ),
        ('```json\n[{"bbox_2d": [1, 2, 3, 4], "label": "猫"}]\n```', [("猫", (1, 2, 3, 4))]),
        (
            '[{"bbox_2d": [1, 2, 3, 4]}]\n[{"bbox_2d": [5, 6, 7, 8]}]',
            [("", (1, 2, 3, 4)), ("", (5, 6, 7, 8))],
        ),
        ('See [1]: {"bbox_2d": [1, 2, 3, 4], "label": "a"}', [("a", (1, 2, 3, 4))]),
        ('[{"bbox_2d": [4, 3, 2, 1], "label": "a"}]', [("a", (4, 3, 2, 1))]),
        ("<|box_start|>(1,2),(3,4)<|box_end|>", [("", (1, 2, 3, 4))]),
        (
            "<|object_ref_start|>a cat<|object_ref_end|><|box_start|>(1, 2), (3, 4)<|box_end|>"
            "<|box_start|>(5,6),(7,8)<|box_end|> and "
            "<|object_ref_start|>a dog<|object_ref_end|><|box_start|>(9,8),(7,6)<|box_end|>",
            [("a cat", (1, 2, 3, 4)), ("a cat", (5, 6, 7, 8)), ("a dog", (9, 8, 7, 6))],
        ),
        ("<|box_start|>(1,2),(3,4)<|box_end|><|box_start|>(5,6),(7", [("", (1, 2, 3, 4))]),
        (
            '<|box_start|>(1,2),(3,4)<|box_end|> {"bbox_2d": [5, 6, 7, 8], "label": "b"}',
            [("", (1, 2, 3, 4)), ("b", (5, 6, 7, 8))],
        ),
        ("<|box_start|>(1,2)<|box_end|>", []),
        (f"<|box_start|>({'9' * 400},2),(3,4)<|box_end|>", []),
    ],
)
def test_boxes_are_found(text: str, found: list) -> None:
    assert _found(text) == found


@pytest.mark.parametrize(
    "text",
    ['{"bbox_2d": [1, 2, 3, 4], "label": "a"}', 'A: {"label": "a", "bbox_2d": [1, 2, 3, 4]}.'],
)
def test_an_object_without_a_list_around_it_is_a_box(text: str) -> None:
    """Its own coordinates are the only list in the text."""
    assert _found(text) == [("a", (1, 2, 3, 4))]


@pytest.mark.parametrize(
    "text",
    [
        '[{"bbox_2d": [1, 2, 3, 4], "label": "a"}, {"bbox_2d": [5, 6',
        '[{"bbox_2d": [1, 2, 3, 4], "label": "a"}, {"bbox_2d": [5, 6, 7, 8], "lab',
        '[{"bbox_2d": [1, 2, 3, 4], "label": "a"},, ]',
        '[{"bbox_2d": [1, 2, 3, 4], "label": "a"}, {bbox_2d: [5, 6, 7, 8]}]',
    ],
)
def test_broken_json_does_not_hide_what_was_finished(text: str) -> None:
    assert _found(text) == [("a", (1, 2, 3, 4))]


def test_boxes_inside_another_object_are_found() -> None:
    text = '{"objects": [{"bbox_2d": [1, 2, 3, 4], "label": "a"}], "count": 1}'
    assert _found(text) == [("a", (1, 2, 3, 4))]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "It shows 3 shapes.",
        "[]",
        "[1, 2, 3, 4]",
        "[true]",
        '[{"bbox_2d": [1, 2, 3]}]',
        '[{"bbox_2d": [1, 2, 3, 4, 5]}]',
        '[{"bbox_2d": [1, 2, 3, true]}]',
        '[{"bbox_2d": [1, 2, 3, "4"]}]',
        '[{"bbox_2d": [1, 2, 3, null]}]',
        '[{"bbox_2d": [[1, 2], [3, 4]]}]',
        '[{"bbox_2d": {"x1": 1}}]',
        '[{"bbox": [1, 2, 3, 4]}]',
    ],
)
def test_what_is_no_box_is_passed_over(text: str) -> None:
    assert find_boxes(text) == []


@pytest.mark.parametrize(
    "side",
    ["NaN", "Infinity", "-Infinity", "1e999", pytest.param("1" + "0" * 400, id="400 digits")],
)
def test_a_side_that_is_no_finite_number_is_no_box(side: str) -> None:
    """A model may write anything; the record of it must still be strict JSON."""
    text = f'[{{"bbox_2d": [{side}, 2, 3, 4]}}, {{"bbox_2d": [1, 2, 3, 4], "label": "a"}}]'
    assert _found(text) == [("a", (1, 2, 3, 4))]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('[{"bbox_2d": [' + "7" * 5000 + ", 2, 3, 4]}]", id="endless digits"),
        pytest.param("[" * 5000 + "]" * 5000, id="endless brackets"),
    ],
)
def test_a_degenerate_answer_has_no_boxes(text: str) -> None:
    assert find_boxes(text) == []


@pytest.mark.parametrize(
    ("label", "expected"), [("null", ""), ('""', ""), ('"red circle"', "red circle"), ("7", "7")]
)
def test_a_label_is_text_and_empty_when_nothing_is_said(label: str, expected: str) -> None:
    text = f'[{{"bbox_2d": [1, 2, 3, 4], "label": {label}}}]'
    assert find_boxes(text) == [LabelledBox(label=expected, box=(1.0, 2.0, 3.0, 4.0))]


def test_boxes_go_back_to_the_pixels_of_the_file() -> None:
    text = '[{"bbox_2d": [28, 14, 56, 28], "label": "a"}, {"bbox_2d": [1, 1, 2, 2]}]'
    resized = BoxFrame(
        space="resized_pixels", file_height=100, file_width=300, resized_height=56, resized_width=84
    )
    assert boxes_in_file(text, resized) == [
        {"label": "a", "box": [100.0, 25.0, 200.0, 50.0]},
        {"label": "", "box": [3.57, 1.79, 7.14, 3.57]},
    ]
    thousandths = BoxFrame(
        space="thousandths", file_height=100, file_width=300, resized_height=56, resized_width=84
    )
    assert boxes_in_file('[{"bbox_2d": [0, 500, 1000, 1000]}]', thousandths) == [
        {"label": "", "box": [0.0, 50.0, 300.0, 100.0]}
    ]


@pytest.mark.parametrize("side", ["1e308", "-1e308", pytest.param("9" * 308, id="308 digits")])
def test_boxes_in_the_file_are_always_strict_json(side: str) -> None:
    """A side that is finite, and no longer when it is taken to a larger file."""
    frame = BoxFrame(
        space="resized_pixels", file_height=560, file_width=840, resized_height=56, resized_width=84
    )
    boxes = boxes_in_file(f'[{{"bbox_2d": [1, 2, {side}, 4]}}]', frame)
    json.dumps(boxes, allow_nan=False)
