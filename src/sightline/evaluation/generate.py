"""Greedy answers, the same way wherever they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers import GenerationConfig

from sightline.data import IGNORE_INDEX, EncodedSample
from sightline.families import Tokens


class Answer(NamedTuple):
    """A greedy answer.

    Attributes:
        ids: New token ids, the token that closes the turn included.
        gaps: Distance between the two highest logits at every step: how close the choice was.
    """

    ids: list[int]
    gaps: list[float]


def greedy(
    model: Any,
    inputs: dict[str, torch.Tensor],
    *,
    tokenizer: Any,
    tokens: Tokens,
    max_new_tokens: Sequence[int],
) -> list[Answer]:
    """Greedy answers of a batch, each cut after the token that closes the turn.

    Args:
        model: The model, in evaluation mode.
        inputs: A batch padded on the left, for ``generate``.
        tokenizer: The checkpoint's tokenizer.
        tokens: The family's special tokens.
        max_new_tokens: Upper bound on the answer of each row, tokens.
    """
    stops = closing_ids(tokenizer, tokens)
    settings = greedy_settings(stops, max(max_new_tokens), output_logits=True)
    with torch.no_grad():
        made = model.generate(**inputs, generation_config=settings)
    width = inputs["input_ids"].shape[1]
    best = torch.stack([step.float().topk(2, dim=-1).values for step in made.logits])
    gaps = (best[..., 0] - best[..., 1]).T.tolist()
    answers = []
    for row, limit in enumerate(max_new_tokens):
        ids = until_closed(made.sequences[row, width : width + limit].tolist(), stops)
        answers.append(Answer(ids, gaps[row][: len(ids)]))
    return answers


def closing_ids(tokenizer: Any, tokens: Tokens) -> list[int]:
    """Ids of the tokens that end an answer: that of a turn, and that of a text."""
    return tokenizer.convert_tokens_to_ids([tokens.turn_end, tokens.end_of_text])


def greedy_settings(stops: list[int], max_new_tokens: int, **others: Any) -> GenerationConfig:
    """Generation without chance.

    Every field that steers the choice is given: unset ones come from the checkpoint's own
    generation config, and a repetition penalty there would make a greedy answer another one.

    Args:
        stops: Ids that end an answer; the last of them fills rows that have ended.
        max_new_tokens: Bound on the answers.
        **others: Further settings.
    """
    return GenerationConfig(
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        max_new_tokens=max_new_tokens,
        eos_token_id=stops,
        pad_token_id=stops[-1],
        use_cache=True,
        return_dict_in_generate=True,
        **others,
    )


def same_answer(first: Answer, second: Answer, tolerance: float) -> bool:
    """Whether two answers are equal, or part where the choice was a tie.

    A greedy choice between two logits closer than the tolerance of logits is decided by the
    order of additions; what follows it is no sign of a fault.

    >>> same_answer(Answer([5, 6], [9.0, 9.0]), Answer([5, 7], [9.0, 9.0]), 1e-3)
    False
    >>> same_answer(Answer([5, 6], [9.0, 1e-4]), Answer([5, 7], [9.0, 1e-4]), 1e-3)
    True
    """
    if first.ids == second.ids:
        return True
    pairs = zip(first.ids, second.ids, first.gaps, second.gaps, strict=False)
    for one, other, gap, other_gap in pairs:
        if one != other:
            return max(gap, other_gap) <= 2 * tolerance
    return False


def answer_text(ids: list[int], tokenizer: Any, tokens: Tokens) -> str:
    """The words of an answer, without the token that closes it."""
    words = ids[:-1] if ids and ids[-1] in closing_ids(tokenizer, tokens) else ids
    return tokenizer.decode(words, skip_special_tokens=False)


def last_answer(sample: EncodedSample) -> list[int]:
    """Token ids of the last supervised run of a sample: the answer and its closing token."""
    supervised = (sample.labels != IGNORE_INDEX).nonzero()[0]
    last = int(supervised[-1])
    first = last
    while first > 0 and sample.labels[first - 1] != IGNORE_INDEX:
        first -= 1
    return sample.labels[first : last + 1].tolist()


def until_closed(ids: list[int], stops: list[int]) -> list[int]:
    """The ids of an answer up to the token that ends it, that one included."""
    for index, token in enumerate(ids):
        if token in stops:
            return ids[: index + 1]
    return ids
