"""Token ids of many texts at once are those of each alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sightline.data.text import TextEncoder
from sightline.model import open_checkpoint

SYSTEM = "<|im_start|>system\n{}<|im_end|>\n"
TURNS = (
    "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Où?<|im_end|>\n"
    "<|im_start|>assistant\nA star, e\u0301.<|im_end|>\n"
)
TEXTS = [
    SYSTEM.format("You are a helpful assistant.") + TURNS,
    SYSTEM.format("Be short.  ") + TURNS,
    SYSTEM.format("You are a helpful assistant.") + TURNS.replace("star", "ring"),
    SYSTEM.format("e\u0301") + TURNS,
    TURNS,
    "<|im_start|>system\nnever closed",
    "",
]


@pytest.fixture(params=["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def encoder(request: pytest.FixtureRequest, tiny_folder: Callable[[str], Path]) -> TextEncoder:
    checkpoint = open_checkpoint(str(tiny_folder(request.param)))
    tokens = checkpoint.family.tokens
    return TextEncoder(processor=checkpoint.processor, tokens=tokens, timestamps_in_text=False)


def test_ids_of_all_are_the_ids_of_each(encoder: TextEncoder) -> None:
    expected = [encoder.ids(text) for text in TEXTS]
    assert encoder.ids_of_all(TEXTS) == expected
    # Again, now that system turns are known.
    assert encoder.ids_of_all(TEXTS[::-1]) == expected[::-1]


def test_many_system_turns_are_not_all_kept(encoder: TextEncoder, monkeypatch) -> None:
    monkeypatch.setattr("sightline.data.text._MAX_SYSTEM_TURNS", 3)
    texts = [SYSTEM.format(f"Number {number}.") + TURNS for number in range(10)]
    assert encoder.ids_of_all(texts) == [encoder.ids(text) for text in texts]
    assert len(encoder._system_turns) <= 3
