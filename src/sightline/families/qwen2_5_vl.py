"""Qwen2.5-VL."""

from __future__ import annotations

from sightline.families.qwen2_vl import DECODER_LINEARS
from sightline.families.record import Family, Modules, RopeLayout, Tokens

QWEN2_5_VL = Family(
    key="qwen2_5_vl",
    title="Qwen2.5-VL",
    tokens=Tokens(),
    rope=RopeLayout(
        temporal_rule="seconds",
        who_agrees="Qwen's published rope2d.py, transformers 4.49 and vLLM",
    ),
    modules=Modules(
        vision="model.visual",
        vision_blocks="model.visual.blocks",
        projectors=("model.visual.merger",),
        language="model.language_model",
        language_blocks="model.language_model.layers",
        embeddings="model.language_model.embed_tokens",
        head="lm_head",
        vision_lora=("attn.qkv", "attn.proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
        projector_lora=("mlp.0", "mlp.2"),
        language_lora=DECODER_LINEARS,
    ),
    box_space="resized_pixels",
    frame_rule="arange_truncated",
    video_budget="per_frame",
)
