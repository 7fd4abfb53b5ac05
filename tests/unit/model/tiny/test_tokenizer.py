"""The tokenizer: real kind, real control tokens in their real order, any text there and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from sightline.model.tiny.tokenizer import example_texts, make_tokenizer

# The order of the published Qwen2-VL tokenizer, from <|endoftext|> on.
SPECIAL = [
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
]
# What Qwen2.5 and then Qwen3 added behind them, not special.
OF_QWEN2_5 = [
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
]
OF_QWEN3 = ["<tool_response>", "</tool_response>", "<think>", "</think>"]
PLAIN = {"qwen2_vl": [], "qwen2_5_vl": OF_QWEN2_5, "qwen3_vl": OF_QWEN2_5 + OF_QWEN3}


@pytest.fixture(params=PLAIN)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def tokenizer(family: str, tiny_folder: Callable[[str], Path]) -> Any:
    return AutoTokenizer.from_pretrained(tiny_folder(family))


def test_it_loads_as_the_real_class(tokenizer: Any) -> None:
    assert type(tokenizer).__name__ == "Qwen2Tokenizer"
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert tokenizer.bos_token is None
    assert tokenizer.unk_token is None


def test_added_tokens_stand_in_the_real_order(tokenizer: Any, family: str) -> None:
    added = sorted(tokenizer.added_tokens_decoder.items())
    first = added[0][0]
    assert [(index, str(token)) for index, token in added] == [
        (first + rank, text) for rank, text in enumerate(SPECIAL + PLAIN[family])
    ]
    assert [str(token) for _, token in added if token.special] == SPECIAL
    assert len(tokenizer) == first + len(added)


def test_a_control_token_is_one_token_even_inside_words(tokenizer: Any) -> None:
    for text in SPECIAL:
        wanted = tokenizer.convert_tokens_to_ids(text)
        assert tokenizer(f"a{text}b", add_special_tokens=False)["input_ids"][1] == wanted
    assert tokenizer("<|im_end|>")["input_ids"] == [tokenizer.eos_token_id]


def test_only_special_tokens_are_skipped_when_decoding(tokenizer: Any, family: str) -> None:
    text = "<|im_start|>x" + "".join(PLAIN[family]) + "<|im_end|>"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "x" + "".join(PLAIN[family])


@pytest.mark.parametrize(
    "text",
    [
        "A red circle.",
        '{"bbox_2d": [57, 3, 105, 51], "label": "red circle"}',
        "图中有一个红色的圆形。",
        "🟥🔺👩‍👩‍👧 ok",
        " \n\t  two\r\nlines  ",
        "Ünïcödé العربية हिन्दी",
        "\x00\x7f",
    ],
)
def test_any_text_comes_back(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_text_is_normalised_to_nfc(tokenizer: Any) -> None:
    composed, decomposed = "\u00e9", "e\u0301"
    assert tokenizer(decomposed)["input_ids"] == tokenizer(composed)["input_ids"]


def test_words_are_split_by_the_real_rule(tokenizer: Any) -> None:
    splitter = tokenizer.backend_tokenizer.pre_tokenizer
    pieces = [piece for piece, _ in splitter.pre_tokenize_str("I'm 12 [a],\n\n b")]
    assert pieces == ["I", "'m", "Ġ", "1", "2", "Ġ[", "a", "],ĊĊ", "Ġb"]


def test_a_typical_answer_is_some_tens_of_tokens(tokenizer: Any) -> None:
    box = {"bbox_2d": [57, 3, 105, 51], "label": "red circle"}
    assert 15 <= len(tokenizer(json.dumps([box]))["input_ids"]) <= 40
    assert len(tokenizer("There is a blue square.")["input_ids"]) <= 8


def test_a_corpus_decides_the_merges() -> None:
    tokenizer = make_tokenizer((), "", ["zebra zebra zebra"] * 4)
    assert tokenizer.tokenize("zebra zebra") == ["zebra", "Ġzebra"]


def test_without_merges_every_byte_is_a_token() -> None:
    assert make_tokenizer((), "", []).tokenize("ab 图") == ["a", "b", "Ġ", "å", "Ľ", "¾"]


def test_the_example_texts_are_the_same_every_time() -> None:
    assert example_texts() == example_texts()
    assert all(text.isascii() for text in example_texts())
