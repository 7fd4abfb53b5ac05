"""Boxes and points of imperfect answers: what is salvaged, and what is counted as lost."""

from __future__ import annotations

import pytest

from sightline.evaluation.reading import read_answer

GOOD = '[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}]'
CAT = [("cat", (1, 2, 3, 4))]


@pytest.mark.parametrize(
    ("text", "found", "repairs", "lost"),
    [
        (GOOD, CAT, set(), ()),
        (f"```json\n{GOOD}\n```", CAT, {"fenced"}, ()),
        (f"Here it is: {GOOD}. I hope so.", CAT, {"text_around"}, ()),
        (GOOD.replace('"', "'"), CAT, {"single_quotes"}, ()),
        (GOOD[:-1], CAT, {"cut_off"}, ()),
        # The label is still to come: it may be any.
        ('[{"bbox_2d": [1, 2, 3, 4], "la', [], {"cut_off"}, ("cut_off",)),
        ('[{"label": "cat", "bbox_2d": [1, 2, 3, 4]', CAT, {"cut_off"}, ()),
        (GOOD[:-1] + ', {"bbox_2d": [5, 6', CAT, {"cut_off"}, ("cut_off",)),
        (GOOD[:-1] + ", {", CAT, {"cut_off"}, ("cut_off",)),
        ('{"bbox_2d": [1, 2, 3], "label": "cat"}', [], set(), ("wrong_count",)),
        ('{"bbox_2d": [1, 2, 3, 4, 5], "label": "cat"}', [], set(), ("wrong_count",)),
        ('{"point_2d": [1, 2, 3, 4], "label": "cat"}', [], set(), ("wrong_count",)),
        ('{"bbox_2d": "1, 2", "label": "cat"}', [], set(), ("no_numbers",)),
        ('{"bbox_2d": [1, 2, "3", 4], "label": "cat"}', [], set(), ("no_numbers",)),
        ('{"bbox_2d": [1, 2, 3, 1e300], "label": "cat"}', [], set(), ("no_numbers",)),
        ('{"bbox_2d": [3, 4, 1, 2], "label": "cat"}', CAT, {"corners_swapped"}, ()),
        (
            '{"bbox_2d": [9, 9, 9, 9], "bbox_2d": [1, 2, 3, 4], "label": "cat"}',
            CAT,
            {"duplicate_keys"},
            (),
        ),
        ('{"point_2d": [5, 6], "label": " cat "}', [("cat", (5, 6))], set(), ()),
        ('{"objects": [{"box": [1, 2, 3, 4], "name": "cat"}]}', CAT, set(), ()),
        ('{"where": [1, 2, 3, 4], "what": "cat"}', CAT, set(), ()),
        ('{"bbox_2d": [[1, 2], [3, 4]], "label": "cat"}', CAT, set(), ()),
        ("[[1, 2, 3, 4], [5, 6, 7]]", [("", (1, 2, 3, 4))], set(), ("wrong_count",)),
        (
            "<|object_ref_start|>cat<|object_ref_end|><|box_start|>(1,2),(3,4)<|box_end|>",
            CAT,
            set(),
            (),
        ),
        (
            "<|object_ref_start|>cat<|object_ref_end|><|box_start|>(1,2),(3",
            [],
            {"cut_off"},
            ("cut_off",),
        ),
        ("", [], set(), ()),
        ("There is no cat.", [], set(), ()),
        ("[]", [], set(), ()),
    ],
)
def test_what_an_answer_says(text: str, found: list, repairs: set, lost: tuple) -> None:
    read = read_answer(text)
    assert [(one.label, one.numbers) for one in read.found] == found
    assert (read.repairs, read.lost) == (repairs, lost)


@pytest.mark.parametrize(
    ("text", "is_list"),
    [("[]", True), (GOOD, True), ("none", False), ("", False), ("x {", False), ('{" ', False)],
)
def test_a_list_of_nothing_is_an_answer_and_words_are_none(text: str, is_list: bool) -> None:
    assert read_answer(text).is_list is is_list


def test_objects_know_where_they_stand() -> None:
    text = f"first {GOOD}"
    [one] = read_answer(text).found
    assert text[one.start : one.stop] == GOOD[1:-1]
