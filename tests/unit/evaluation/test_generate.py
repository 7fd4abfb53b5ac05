"""Answers: compared, cut and read."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from sightline.data import EncodedSample
from sightline.data.conversation import Conversation, Message, Origin, TextPart
from sightline.evaluation import Answer, answer_text, last_answer, same_answer
from sightline.families import TRAINABLE_FAMILIES
from sightline.positions import Layout, Span

TOLERANCE = 1e-3


def _sample(ids: list[int], labels: list[int]) -> EncodedSample:
    turn = Message(role="assistant", parts=(TextPart(text="a"),), field="conversations[1]")
    return EncodedSample(
        conversation=Conversation(
            messages=(turn,), origin=Origin(file=Path("a.jsonl"), line=1, index=0)
        ),
        input_ids=np.array(ids, dtype=np.int64),
        labels=np.array(labels, dtype=np.int64),
        layout=Layout(spans=(Span(kind="text", num_tokens=len(ids)),)),
        images=(),
        videos=(),
    )


def test_equal_answers_are_the_same_however_close_the_choices() -> None:
    assert same_answer(Answer([5, 6], [0.0, 0.0]), Answer([5, 6], [3.0, 3.0]), TOLERANCE)
    assert same_answer(Answer([], []), Answer([], []), TOLERANCE)


@pytest.mark.parametrize(
    ("gap", "other_gap", "same"),
    [
        (0.0, 0.0, True),
        (2e-3, 2e-3, True),
        (2e-3, 1e-5, True),
        (2.1e-3, 1e-5, False),
        (1e-5, 2.1e-3, False),
        (5.0, 5.0, False),
        (math.nan, math.nan, False),
    ],
)
def test_answers_may_part_where_both_choices_were_ties(
    gap: float, other_gap: float, same: bool
) -> None:
    """The bound is twice the tolerance: each of the two logits may move by it."""
    first = Answer([5, 6, 7], [4.0, gap, 4.0])
    second = Answer([5, 8, 9], [4.0, other_gap, 4.0])
    assert same_answer(first, second, TOLERANCE) is same
    assert same_answer(second, first, TOLERANCE) is same


def test_only_the_first_parting_counts() -> None:
    tied_later = Answer([5, 6, 7], [4.0, 4.0, 0.0])
    assert not same_answer(tied_later, Answer([5, 8, 9], [4.0, 4.0, 0.0]), TOLERANCE)
    tied_first = Answer([5, 6, 7], [4.0, 0.0, 4.0])
    assert same_answer(tied_first, Answer([5, 8, 9], [4.0, 0.0, 4.0]), TOLERANCE)


def test_an_answer_that_goes_on_is_another_answer() -> None:
    short, long = Answer([5, 6], [0.0, 0.0]), Answer([5, 6, 7], [0.0, 0.0, 0.0])
    assert not same_answer(short, long, TOLERANCE)
    assert not same_answer(long, short, TOLERANCE)
    assert not same_answer(Answer([], []), short, TOLERANCE)


def test_the_last_answer_is_the_last_supervised_run() -> None:
    ids = [1, 2, 10, 11, 3, 4, 12, 13, 14, 5]
    labels = [-100, -100, 10, 11, -100, -100, 12, 13, 14, -100]
    assert last_answer(_sample(ids, labels)) == [12, 13, 14]


@pytest.mark.parametrize(
    ("labels", "answer"),
    [
        ([7, 8, 9], [7, 8, 9]),
        ([-100, -100, 9], [9]),
        ([7, -100, -100], [7]),
        ([7, -100, 9], [9]),
    ],
)
def test_the_last_answer_may_touch_both_ends(labels: list[int], answer: list[int]) -> None:
    assert last_answer(_sample([7, 8, 9], labels)) == answer


def test_the_words_of_an_answer_leave_out_the_closing_token_alone(tiny_folder) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder("qwen2_5_vl"))
    tokens = TRAINABLE_FAMILIES["qwen2_5_vl"].tokens
    words = tokenizer("It shows 3 shapes.").input_ids
    closing, stop = tokenizer.convert_tokens_to_ids([tokens.turn_end, tokens.end_of_text])
    for ids in (words, [*words, closing], [*words, stop]):
        assert answer_text(ids, tokenizer, tokens) == "It shows 3 shapes."
    assert answer_text([], tokenizer, tokens) == ""
    assert answer_text([closing], tokenizer, tokens) == ""
    # A control token in the middle is a fault of the model and stays visible.
    assert answer_text([closing, *words, closing], tokenizer, tokens) == (
        f"{tokens.turn_end}It shows 3 shapes."
    )
