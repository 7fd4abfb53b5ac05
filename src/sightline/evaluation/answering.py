"""Answers of a batch, with the probability of every token: how sure the model was of a box."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from sightline.evaluation.generate import closing_ids, greedy_settings, until_closed
from sightline.families import Tokens


class Said(NamedTuple):
    """A greedy answer.

    Attributes:
        ids: New token ids, the token that closes the turn included.
        log_probs: Logarithm of the probability of each.
        is_cut: Whether it ended at the bound.
    """

    ids: list[int]
    log_probs: list[float]
    is_cut: bool


def answer_batch(
    model: Any,
    inputs: dict[str, torch.Tensor],
    *,
    tokenizer: Any,
    tokens: Tokens,
    max_new_tokens: int,
) -> list[Said]:
    """Greedy answers of a batch.

    Logits of a step are looked at and let go: kept, those of 16 answers of 512 tokens take 5 GB.

    Args:
        model: The model, in evaluation mode.
        inputs: A batch padded on the left, for ``generate``.
        tokenizer: The checkpoint's tokenizer.
        tokens: The family's special tokens.
        max_new_tokens: Bound on the answers, tokens.
    """
    stops = closing_ids(tokenizer, tokens)
    watch = _Chosen()
    with torch.no_grad():
        made = model.generate(
            **inputs,
            generation_config=greedy_settings(stops, max_new_tokens),
            logits_processor=LogitsProcessorList([watch]),
        )
    width = inputs["input_ids"].shape[1]
    log_probs = torch.stack(watch.log_probs, dim=1).tolist()
    said = []
    for row, probs in enumerate(log_probs):
        ids = until_closed(made.sequences[row, width:].tolist(), stops)
        said.append(Said(ids, probs[: len(ids)], not ids or ids[-1] not in stops))
    return said


def likelihood(log_probs: Sequence[float]) -> float:
    """Geometric mean of the probabilities of tokens; 1 of none.

    >>> round(likelihood([math.log(0.5), math.log(0.125)]), 9)
    0.25
    """
    return math.exp(math.fsum(log_probs) / len(log_probs)) if log_probs else 1.0


def part_likelihood(said: Said, tokenizer: Any, text: str, start: int, stop: int) -> float:
    """Likelihood of the tokens of some characters of an answer.

    Args:
        said: The answer.
        tokenizer: A tokenizer whose tokens are bytes or special tokens.
        text: The answer as text, without its closing token.
        start: First character.
        stop: Behind the last.

    Returns:
        That of the whole answer where its tokens are not the bytes of the text: half a character
        was decoded as a question mark.
    """
    lengths = _num_bytes(tokenizer, said.ids)
    if sum(lengths[: _num_words(lengths, text)]) != len(text.encode("utf-8", "replace")):
        return likelihood(said.log_probs)
    first = len(text[:start].encode("utf-8", "replace"))
    last = first + len(text[start:stop].encode("utf-8", "replace"))
    place, own = 0, []
    for num_bytes, log_prob in zip(lengths, said.log_probs, strict=True):
        if place < last and place + num_bytes > first:
            own.append(log_prob)
        place += num_bytes
    return likelihood(own)


def _num_words(lengths: Sequence[int], text: str) -> int:
    """Tokens that the text is made of: all, or all but the one that closes the answer."""
    whole = len(text.encode("utf-8", "replace"))
    return len(lengths) if sum(lengths) == whole else max(len(lengths) - 1, 0)


def _num_bytes(tokenizer: Any, ids: Sequence[int]) -> list[int]:
    """Bytes of every token: a sign of a byte-level token each, the name of a special one."""
    special = tokenizer.get_added_vocab()
    return [
        # A model may have more ids than its tokenizer knows; they are written as nothing.
        0 if token is None else len(token.encode()) if token in special else len(token)
        for token in tokenizer.convert_ids_to_tokens(ids)
    ]


class _Chosen(LogitsProcessor):
    """Writes down how probable the likeliest token of every step is; changes nothing."""

    def __init__(self) -> None:
        self.log_probs: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        wide = scores.float()
        self.log_probs.append((wide.amax(dim=-1) - wide.logsumexp(dim=-1)).cpu())
        return scores
