"""What an exported folder says of generation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from sightline.model import load_weights, open_checkpoint, save_merged


@pytest.mark.parametrize("stops", ["the end of a text", "both", "nothing"])
@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_vl"])
def test_an_export_stops_where_answers_end(
    family: str, stops: str, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """A base model stops at the end of a text alone, and would write on after every answer."""
    checkpoint = open_checkpoint(str(tiny_folder(family)))
    words = ["<|im_end|>", "<|endoftext|>"]
    closing, end_of_text = checkpoint.processor.tokenizer.convert_tokens_to_ids(words)
    before = {"the end of a text": end_of_text, "both": [end_of_text, closing], "nothing": None}
    model: Any = load_weights(checkpoint.source, dtype=torch.float32)
    model.generation_config.eos_token_id = before[stops]
    save_merged(model, checkpoint, tmp_path / "merged")
    saved = GenerationConfig.from_pretrained(tmp_path / "merged").eos_token_id
    expected = {
        "the end of a text": [closing, end_of_text],
        "both": [end_of_text, closing],
        "nothing": [closing],
    }
    assert saved == expected[stops]
