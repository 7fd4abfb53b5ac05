"""How sure a model was: probabilities of the tokens of a part of an answer."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from sightline.evaluation.answering import Said, likelihood, part_likelihood

TEXT = "[{'é': 1}, {'b': 2}] 猫"


@pytest.fixture(scope="module")
def tokenizer(tiny_folder):
    folder: Path = tiny_folder("qwen2_5_vl")
    return AutoTokenizer.from_pretrained(str(folder))


def _said(tokenizer, text: str, sure: slice) -> Said:
    """An answer whose tokens that begin in a part are certain, and the others are not."""
    ids = tokenizer(text + "<|im_end|>")["input_ids"]
    place, probs = 0, []
    for one in ids:
        width = len(tokenizer.convert_ids_to_tokens(one))
        first = len(text[: sure.start].encode())
        last = len(text[: sure.stop].encode())
        probs.append(0.0 if place < last and place + width > first else math.log(0.5))
        place += width
    return Said(ids, probs, False)


@pytest.mark.parametrize("part", ["{'é': 1}", "{'b': 2}", "猫"])
def test_a_part_is_as_likely_as_its_own_tokens(tokenizer, part: str) -> None:
    start = TEXT.index(part)
    said = _said(tokenizer, TEXT, slice(start, start + len(part)))
    found = part_likelihood(said, tokenizer, TEXT, start, start + len(part))
    assert found == pytest.approx(1)
    assert likelihood(said.log_probs) < 1


def test_half_a_character_leaves_the_likelihood_of_the_whole(tokenizer) -> None:
    said = _said(tokenizer, TEXT, slice(0, 5))
    assert part_likelihood(said, tokenizer, TEXT + "\ufffd", 0, 5) == likelihood(said.log_probs)


def test_ids_that_no_tokenizer_knows_are_nothing(tokenizer) -> None:
    said = _said(tokenizer, TEXT, slice(0, 5))
    unknown = len(tokenizer) + 7
    longer = Said([*said.ids[:-1], unknown, said.ids[-1]], [*said.log_probs, -9.0], False)
    assert tokenizer.convert_ids_to_tokens(unknown) is None
    assert 0 < part_likelihood(longer, tokenizer, TEXT, 0, 5) <= 1


def test_no_token_is_certain() -> None:
    assert likelihood([]) == 1
    assert likelihood([math.log(0.25), 0.0]) == pytest.approx(0.5)
