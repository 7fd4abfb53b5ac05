"""Measures of words, by hand."""

from __future__ import annotations

import pytest

from sightline.errors import ConfigError
from sightline.evaluation.metrics.text import (
    anls,
    exact_match,
    kept,
    number_of,
    relaxed_accuracy,
    rouge_l,
)


@pytest.mark.parametrize(
    ("answer", "annotation", "value"),
    [("cat", "cat", 1), (" cat\n", "cat", 1), ("Cat", "cat", 0), ("", "", 1), ("", "cat", 0)],
)
def test_exact_match(answer: str, annotation: str, value: float) -> None:
    assert exact_match(answer, annotation) == value


@pytest.mark.parametrize(
    ("answer", "annotation", "value"),
    [
        ("CAT", "cat", 1),
        ("kitten", "sitting", 1 - 3 / 7),
        # Half of the letters differ: not over the threshold.
        ("ab", "ax", 0),
        ("abc", "abx", 2 / 3),
        ("", "cat", 0),
    ],
)
def test_anls(answer: str, annotation: str, value: float) -> None:
    assert anls(answer, annotation) == pytest.approx(value)


@pytest.mark.parametrize(
    ("answer", "annotation", "value"),
    [
        ("105", "100", 1),
        ("95", "100", 1),
        ("105.1", "100", 0),
        ("-100", "100", 0),
        ("1,000", "1000", 1),
        ("50%", "0.5", 1),
        ("$12", "12.5", 1),
        ("0.01", "0", 0),
        ("0.0", "0", 1),
        ("Yes", "yes", 1),
        ("about 100", "100", 0),
        ("five", "5", 0),
    ],
)
def test_relaxed_accuracy(answer: str, annotation: str, value: float) -> None:
    assert relaxed_accuracy(answer, annotation) == value


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12", 12), ("-3.5", -3.5), (".5", 0.5), ("1e3", 1000), ("7 %", 0.07), ("€5", 5),
        ("12.", 12), ("1,2", None), ("1 2", None), ("e5", None), ("-", None), ("%", None),
    ],
)  # fmt: skip
def test_numbers(text: str, number: float | None) -> None:
    assert number_of(text) == number


def test_rouge_l() -> None:
    assert rouge_l("the cat sat", "the cat sat") == 1
    assert rouge_l("", "the cat") == 0
    # Two of three words in order, of four annotated ones.
    assert rouge_l("the dog sat", "the cat sat down") == pytest.approx(
        2 * (2 / 3 * 2 / 4) / (7 / 6)
    )


def test_a_library_that_is_not_there_is_named_with_its_extra() -> None:
    with pytest.raises(ConfigError, match=r"sightline\[evaluation\]"):
        kept("a_package_that_is_not_there.inside")
