"""Measures of words beside other people's code on random words."""

from __future__ import annotations

import random

import pytest
from nltk.metrics.distance import edit_distance

from sightline.evaluation.metrics.text import anls, rouge_l

LETTERS = "abcAB 1"


def _common(one: list[str], other: list[str]) -> int:
    """Length of the longest common subsequence, by its definition."""
    rows = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, first in enumerate(one):
        for j, second in enumerate(other):
            best = max(rows[i][j + 1], rows[i + 1][j])
            rows[i + 1][j + 1] = rows[i][j] + 1 if first == second else best
    return rows[-1][-1]


@pytest.mark.parametrize("seed", range(3))
def test_anls_is_by_the_edit_distance_of_nltk(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(100):
        one, other = ("".join(rng.choices(LETTERS, k=rng.randint(1, 9))) for _ in range(2))
        a, b = one.strip().lower(), other.strip().lower()
        longest = max(len(a), len(b))
        distance = edit_distance(a, b) / longest if longest else 0.0
        assert anls(one, other) == pytest.approx(1 - distance if distance < 0.5 else 0.0)


@pytest.mark.parametrize("seed", range(3))
def test_rouge_l_is_by_the_longest_common_subsequence(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(100):
        one, other = (rng.choices(["red", "big", "cat", "dog"], k=rng.randint(1, 8)) for _ in "ab")
        common = _common(one, other)
        precision, recall = common / len(one), common / len(other)
        wanted = 2 * precision * recall / (precision + recall) if common else 0.0
        assert rouge_l(" ".join(one), " ".join(other)) == pytest.approx(wanted)
