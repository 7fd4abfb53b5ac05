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
VOCABULARY_MULTIPLE = 64


def make_config(family: str, tokenizer: PreTrainedTokenizerBase, *, tied: bool) -> PretrainedConfig:
    """The configuration of a tiny model.

    Args:
        family: Family key.
        tokenizer: Decides the vocabulary and the ids of control tokens.
        tied: Whether head and token embedding share their weights.
    """
    shared = {
        "text_config": _text(family, tokenizer, tied=tied),
        "tie_word_embeddings": tied,
        "initializer_range": INIT_STD,
        **{
            f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>")
            for name, token in (
                ("image", "image_pad"),
                ("video", "video_pad"),
                ("vision_start", "vision_start"),
                ("vision_end", "vision_end"),
            )
        },
    }
    if family == "qwen2_vl":
        return Qwen2VLConfig(vision_config=_qwen2_vision(), **shared)
    if family == "qwen2_5_vl":
        return Qwen2_5_VLConfig(vision_config=_qwen2_5_vision(), **shared)
    return Qwen3VLConfig(vision_config=_qwen3_vision(), **shared)


def _text(family: str, tokenizer: PreTrainedTokenizerBase, *, tied: bool) -> dict[str, Any]:
    rope = {"rope_type": "default", "rope_theta": 1_000_000.0, "mrope_section": [2, 3, 3]}
    if family == "qwen3_vl":
        rope |= {"rope_theta": 5_000_000.0, "mrope_interleaved": True}
    text = {
        "hidden_size": HIDDEN,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 2 * HIDDEN,
        "vocab_size": -(-len(tokenizer) // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE,
        "bos_token_id": tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        "eos_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>"),
        "max_position_embeddings": 32768,
        "rope_parameters": rope,
        "initializer_range": INIT_STD,
        "tie_word_embeddings": tied,
    }
    if family == "qwen3_vl":
        text["head_dim"] = HIDDEN // 4
    return text


def _qwen2_vision() -> dict[str, Any]:
    return {
        "depth": 2,
        "embed_dim": HIDDEN,
        "hidden_size": HIDDEN,
        "num_heads": 4,
        "mlp_ratio": 2,
        "patch_size": 14,
        "initializer_range": INIT_STD,
    }


def _qwen2_5_vision() -> dict[str, Any]:
    return {
        "depth": 2,
        "hidden_size": HIDDEN,
        "out_hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_heads": 4,
        "patch_size": 14,
        "window_size": 112,
        "fullatt_block_indexes": [1],
        # What checkpoints have; the class's own default is 4.
        "tokens_per_second": 2,
        "initializer_range": INIT_STD,
    }


def _qwen3_vision() -> dict[str, Any]:
    return {
        "depth": 2,
        "hidden_size": HIDDEN,
        "out_hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_heads": 4,
        "patch_size": 16,
        "num_position_embeddings": 256,
        "deepstack_visual_indexes": [0],
        "initializer_range": INIT_STD,
    }
