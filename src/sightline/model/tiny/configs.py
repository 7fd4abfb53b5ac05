"""Small configurations of the real classes: everything real but the sizes."""

from __future__ import annotations

from typing import Any

from transformers import (
    PretrainedConfig,
    PreTrainedTokenizerBase,
    Qwen2_5_VLConfig,
    Qwen2VLConfig,
    Qwen3VLConfig,
)

# Large enough that a position error moves whole logits; the real 0.02 would hide it.
INIT_STD = 0.3
HIDDEN = 64
NUM_HEADS = 4
TINY_MARK = "sightline_tiny"
VOCABULARY_MULTIPLE = 64
# Pairs of rotary dimensions for t, h and w: half of a head.
MROPE_SECTION = (2, 3, 3)


def is_tiny(config: PretrainedConfig) -> bool:
    """Whether a model was made here, with random weights. Training and export keep the mark."""
    return bool(config.to_dict().get(TINY_MARK, False))


def qwen2_vl_config(tokenizer: PreTrainedTokenizerBase, *, tied: bool) -> PretrainedConfig:
    """The configuration of a tiny Qwen2-VL.

    Args:
        tokenizer: Decides the vocabulary and the ids of control tokens.
        tied: Whether head and token embedding share their weights.
    """
    vision = {**_vision(), "embed_dim": HIDDEN, "mlp_ratio": 2, "patch_size": 14}
    text = _text(tokenizer, tied=tied, rope_theta=1_000_000.0)
    return Qwen2VLConfig(vision_config=vision, text_config=text, **_outer(tokenizer, tied=tied))


def qwen2_5_vl_config(tokenizer: PreTrainedTokenizerBase, *, tied: bool) -> PretrainedConfig:
    """The configuration of a tiny Qwen2.5-VL: one block attends in windows, one everywhere.

    Args:
        tokenizer: Decides the vocabulary and the ids of control tokens.
        tied: Whether head and token embedding share their weights.
    """
    vision = {
        **_vision(),
        "out_hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "patch_size": 14,
        "window_size": 112,
        "fullatt_block_indexes": [1],
        # What checkpoints have; the class's own default is 4.
        "tokens_per_second": 2,
    }
    text = _text(tokenizer, tied=tied, rope_theta=1_000_000.0)
    return Qwen2_5_VLConfig(vision_config=vision, text_config=text, **_outer(tokenizer, tied=tied))


def qwen3_vl_config(tokenizer: PreTrainedTokenizerBase, *, tied: bool) -> PretrainedConfig:
    """The configuration of a tiny Qwen3-VL with one deepstack merger.

    Args:
        tokenizer: Decides the vocabulary and the ids of control tokens.
        tied: Whether head and token embedding share their weights.
    """
    vision = {
        **_vision(),
        "out_hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "patch_size": 16,
        "num_position_embeddings": 256,
        "deepstack_visual_indexes": [0],
    }
    text = _text(tokenizer, tied=tied, rope_theta=5_000_000.0)
    text["rope_parameters"]["mrope_interleaved"] = True
    text["head_dim"] = HIDDEN // NUM_HEADS
    return Qwen3VLConfig(vision_config=vision, text_config=text, **_outer(tokenizer, tied=tied))


def _vision() -> dict[str, Any]:
    return {
        "depth": 2,
        "hidden_size": HIDDEN,
        "num_heads": NUM_HEADS,
        "temporal_patch_size": 2,
        "spatial_merge_size": 2,
        "initializer_range": INIT_STD,
    }


def _text(tokenizer: PreTrainedTokenizerBase, *, tied: bool, rope_theta: float) -> dict[str, Any]:
    return {
        "hidden_size": HIDDEN,
        "num_hidden_layers": 3,
        "num_attention_heads": NUM_HEADS,
        "num_key_value_heads": 2,
        "intermediate_size": 2 * HIDDEN,
        "vocab_size": -(-len(tokenizer) // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE,
        "bos_token_id": tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        "eos_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>"),
        "max_position_embeddings": 32768,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": rope_theta,
            "mrope_section": list(MROPE_SECTION),
        },
        "initializer_range": INIT_STD,
        "tie_word_embeddings": tied,
    }


def _outer(tokenizer: PreTrainedTokenizerBase, *, tied: bool) -> dict[str, Any]:
    tokens = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    ids = {field: tokenizer.convert_tokens_to_ids(token) for field, token in tokens.items()}
    return {
        **ids,
        "tie_word_embeddings": tied,
        "initializer_range": INIT_STD,
        # Random weights begin at the loss of guessing, which is a fault of pre-trained ones.
        TINY_MARK: True,
    }
