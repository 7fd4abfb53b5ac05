"""A byte-level BPE tokenizer of the family's real kind, trained on the spot.

The class, the splitting rule and the control tokens are the real ones, in their real order, after
the trained vocabulary. Only the merges are few: any text can be written, in more tokens.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import product
from typing import Any

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer

NUM_MERGES = 230

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
# Tokens that are added but not special: `skip_special_tokens` keeps them in a text.
PLAIN_TOKENS_OF_QWEN2: tuple[str, ...] = ()
PLAIN_TOKENS_OF_QWEN2_5 = (
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
)
PLAIN_TOKENS_OF_QWEN3 = (
    *PLAIN_TOKENS_OF_QWEN2_5,
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
)

_COLORS = ("red", "green", "blue", "yellow", "orange", "purple", "black", "white")
_SHAPES = ("circle", "square", "triangle", "star", "cross", "heart", "ring", "diamond")


def make_tokenizer(
    plain_tokens: Sequence[str], chat_template: str, corpus: Sequence[str] | None = None
) -> Qwen2Tokenizer:
    """Train a tokenizer.

    Args:
        plain_tokens: Added tokens of the family that are not special.
        chat_template: Jinja template of the family.
        corpus: Texts to learn merges from; None for text about shapes, boxes and colours.
    """
    vocabulary, merges = _train(corpus if corpus is not None else example_texts())
    # Ids in the real order, whatever order the class adds its own control tokens in.
    vocabulary |= {token: len(vocabulary) + rank for rank, token in enumerate(SPECIAL_TOKENS)}
    build: Any = Qwen2Tokenizer
    tokenizer = build(
        vocab=vocabulary,
        merges=merges,
        unk_token=None,
        bos_token=None,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=32768,
        chat_template=chat_template,
        extra_special_tokens=list(SPECIAL_TOKENS),
    )
    plain: list[str | AddedToken] = [
        AddedToken(text, special=False, normalized=False) for text in plain_tokens
    ]
    tokenizer.add_tokens(plain)
    return tokenizer


def example_texts() -> list[str]:
    """Sentences and JSON about shapes, boxes and colours, for merges worth having."""
    texts = [
        "You are a helpful assistant.",
        "system\n",
        "user\n",
        "assistant\n",
        "Detect every shape. Answer in JSON.",
        "What is in this picture? How many shapes are there?",
        "Which way does the shape move? It moves right. It moves left. It moves up and down.",
        "<0.5 seconds> <1.0 seconds> <1.5 seconds> <2.5 seconds>",
    ]
    for index, (color, shape) in enumerate(product(_COLORS, _SHAPES)):
        left, top = 7 * index % 180, 11 * index % 170
        box = {"bbox_2d": [left, top, left + 40, top + 50], "label": f"{color} {shape}"}
        texts.append(json.dumps([box, box]))
        texts.append(f"There is a {color} {shape}. The {color} {shape} is on the left.")
    return texts


def _train(texts: Sequence[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Byte alphabet and merges, by the same splitting rule as the real tokenizer."""
    rule = Qwen2Tokenizer(vocab={"a": 0}, merges=[]).backend_tokenizer
    learner = Tokenizer(models.BPE())
    learner.normalizer = rule.normalizer
    learner.pre_tokenizer = rule.pre_tokenizer
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + NUM_MERGES, initial_alphabet=alphabet, show_progress=False
    )
    learner.train_from_iterator(texts, trainer)
    learned = json.loads(learner.to_str())["model"]
    return learned["vocab"], [tuple(pair) for pair in learned["merges"]]
