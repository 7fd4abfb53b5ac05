"""Boxes and points of a text; boxes of answers are in tests/unit/evaluation/test_boxes.py."""

from __future__ import annotations

import pytest

from sightline.data.box_text import find_written


def _found(text: str, *, bare: bool = False) -> list[tuple[str, tuple[float, ...]]]:
    return [(box.label, box.numbers) for box in find_written(text, bare=bare)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"point_2d": [5, 6], "label": "nose"}', [("nose", (5, 6))]),
        ("<|box_start|>(5,6)<|box_end|>", [("", (5, 6))]),
        (
            "<|object_ref_start|>a cat<|object_ref_end|><|box_start|>(1,2)<|box_end|>"
            '{"bbox_2d": [3, 4, 5, 6], "label": "b"}',
            [("a cat", (1, 2)), ("b", (3, 4, 5, 6))],
        ),
        ('{"point_2d": [1, 2, 3, 4]}', []),
        ('{"bbox_2d": [1, 2]}', []),
        ("<|box_start|>(1,2),(3,4),(5,6)<|box_end|>", []),
    ],
)
def test_points_and_boxes_are_found(text: str, found: list) -> None:
    assert _found(text) == found


def test_lists_are_boxes_only_where_that_is_asked_for() -> None:
    text = "from [1, 2, 3, 4] to [5.5, -6]; not [1, 2, 3], not [1, 2, 3, 4, 5]"
    assert _found(text) == []
    assert _found(text, bare=True) == [("", (1, 2, 3, 4)), ("", (5.5, -6))]


def test_a_list_inside_an_object_is_found_once() -> None:
    text = '{"bbox_2d": [1, 2, 3, 4], "label": "a"} [5, 6, 7, 8]'
    assert _found(text, bare=True) == [("a", (1, 2, 3, 4)), ("", (5, 6, 7, 8))]


def test_where_a_box_stands() -> None:
    text = "see <|box_start|>(1,2),(3,4)<|box_end|>."
    [box] = find_written(text)
    assert text[box.start : box.stop] == "<|box_start|>(1,2),(3,4)<|box_end|>"
