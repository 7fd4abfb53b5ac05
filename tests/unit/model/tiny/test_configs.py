"""Configurations: small, and otherwise what the published checkpoints say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoTokenizer, GenerationConfig

FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


@pytest.fixture(params=FAMILY_KEYS)
def folder(request: pytest.FixtureRequest, tiny_folder: Callable[[str], Path]) -> Path:
    return tiny_folder(request.param)


@pytest.fixture
def configs(tiny_folder: Callable[[str], Path]) -> dict[str, Any]:
    return {key: AutoConfig.from_pretrained(tiny_folder(key)) for key in FAMILY_KEYS}


def test_model_types(configs: dict[str, Any]) -> None:
    assert {key: config.model_type for key, config in configs.items()} == {
        key: key for key in FAMILY_KEYS
    }


def test_token_ids_equal_the_tokenizers(folder: Path) -> None:
    config, tokenizer = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = {
        "<|image_pad|>": config.image_token_id,
        "<|video_pad|>": config.video_token_id,
        "<|vision_start|>": config.vision_start_token_id,
        "<|vision_end|>": config.vision_end_token_id,
        "<|endoftext|>": config.text_config.bos_token_id,
        "<|im_end|>": config.text_config.eos_token_id,
    }
    assert ids == {text: tokenizer.convert_tokens_to_ids(text) for text in ids}
    assert len(tokenizer) <= config.text_config.vocab_size < len(tokenizer) + 64
    assert config.text_config.vocab_size % 64 == 0


def test_generation_is_greedy_and_stops_at_both_tokens(folder: Path) -> None:
    generation = GenerationConfig.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    stops = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert generation.eos_token_id == stops
    assert generation.pad_token_id == stops[1]
    assert generation.do_sample is False


def test_shape_of_the_language_model(configs: dict[str, Any]) -> None:
    for config in configs.values():
        text = config.text_config
        assert (text.hidden_size, text.intermediate_size, text.num_hidden_layers) == (64, 128, 3)
        assert (text.num_attention_heads, text.num_key_value_heads) == (4, 2)
        assert text.max_position_embeddings == 32768


def test_rotary_parameters(configs: dict[str, Any]) -> None:
    rope = {key: config.text_config.rope_parameters for key, config in configs.items()}
    assert [rope[key]["mrope_section"] for key in FAMILY_KEYS] == [[2, 3, 3]] * 3
    assert [rope[key]["rope_type"] for key in FAMILY_KEYS] == ["default"] * 3
    assert [rope[key]["rope_theta"] for key in FAMILY_KEYS] == [1e6, 1e6, 5e6]
    assert [rope[key].get("mrope_interleaved", False) for key in FAMILY_KEYS] == [
        False,
        False,
        True,
    ]
    assert configs["qwen3_vl"].text_config.head_dim == 16


def test_vision_towers(configs: dict[str, Any]) -> None:
    vision = {key: config.vision_config for key, config in configs.items()}
    assert [vision[key].patch_size for key in FAMILY_KEYS] == [14, 14, 16]
    assert [vision[key].temporal_patch_size for key in FAMILY_KEYS] == [2, 2, 2]
    assert [vision[key].spatial_merge_size for key in FAMILY_KEYS] == [2, 2, 2]
    assert [vision[key].depth for key in FAMILY_KEYS] == [2, 2, 2]
    assert vision["qwen2_5_vl"].tokens_per_second == 2
    assert vision["qwen2_5_vl"].fullatt_block_indexes == [1]
    assert vision["qwen3_vl"].deepstack_visual_indexes == [0]
    assert vision["qwen3_vl"].num_position_embeddings == 16 * 16
