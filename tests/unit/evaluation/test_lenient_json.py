"""JSON as models write it: what is read of it, and what is named as not JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sightline.evaluation.lenient_json import Node, read_json_in


def _plain(node: Node) -> Any:
    if node.kind == "object":
        return {key: _plain(value) for key, value in node.pairs}
    if node.kind == "array":
        return [_plain(item) for item in node.items]
    return node.scalar


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '[{"bbox_2d": [1, 2.5, -3, 4e2], "label": "a \\"b\\" \\u00e9\\n"}, null, true, "x"]',
        '{"a": {"b": [[], {}]}}',
        " [ 1 , 2 ] ",
    ],
)
def test_what_is_json_is_read_as_json_is(text: str) -> None:
    nodes, repairs = read_json_in(text)
    assert repairs == frozenset()
    assert [_plain(node) for node in nodes] == [json.loads(text)]
    assert text[nodes[0].start : nodes[0].stop] == text.strip()


@pytest.mark.parametrize(
    ("text", "value", "repairs"),
    [
        ("{'a': 'it's one'}", {"a": "it's one"}, {"single_quotes"}),
        ("{a: 1}", {"a": 1}, {"bare_keys"}),
        ("[1, 2,]", [1, 2], {"trailing_comma"}),
        ('{"a": 1 "b": 2}', {"a": 1, "b": 2}, {"missing_comma"}),
        ('[{"a": [1, 2}]', [{"a": [1, 2]}], {"brackets"}),
        ('[{"a": 1]', [{"a": 1}], {"brackets"}),
        ('{"a": True, "b": None}', {"a": True, "b": None}, {"python_words"}),
        ('{"a": 1, "a": 2}', {"a": 2}, {"duplicate_keys"}),
        ('[{"a": 1}, {"a": ', [{"a": 1}, {}], {"cut_off"}),
        ('[{"a": 1}, {"b', [{"a": 1}, {}], {"cut_off"}),
        ("[1, 2", [1, 2], {"cut_off"}),
    ],
)
def test_what_is_broken_is_read_and_named(text: str, value: object, repairs: set[str]) -> None:
    nodes, found = read_json_in(text)
    assert [_plain(node) for node in nodes] == [value]
    assert found == repairs


@pytest.mark.parametrize(
    "text", ["", "a cat", "{cat}", "[see below]", "a {b c} d", "<|box_start|>x<|box_end|>"]
)
def test_what_is_no_json_is_left_alone(text: str) -> None:
    assert read_json_in(text) == ((), frozenset())


def test_words_between_values_do_not_hide_them() -> None:
    nodes, repairs = read_json_in('First {no} then {"a": 1} and [2], see [3')
    assert [_plain(node) for node in nodes] == [{"a": 1}, [2], [3]]
    assert [node.is_whole for node in nodes] == [True, True, False]
    assert repairs == {"cut_off"}


def test_boxes_between_tokens_are_arrays() -> None:
    text = '{"b": <|box_start|>(1,2),(3, 4.5)<|box_end|>} <|box_start|>(7,8'
    nodes, repairs = read_json_in(text)
    assert _plain(nodes[0]) == {"b": [1, 2, 3, 4.5]}
    assert not nodes[1].is_whole
    assert repairs == {"cut_off"}


@pytest.mark.parametrize("text", ["[" * 20_000, "{" * 20_000, '{"a":' * 5_000, "['" * 5_000])
def test_brackets_without_end_end(text: str) -> None:
    assert read_json_in(text).repairs <= {"cut_off", "single_quotes"}
