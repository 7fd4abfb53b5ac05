"""Qwen2-VL."""

from __future__ import annotations

from sightline.families.record import Modules, RopeLayout, RotaryLayout, Tokens, TrainableFamily

QWEN2_VL = TrainableFamily(
    key="qwen2_vl",
    title="Qwen2-VL",
    rope=RopeLayout(
        temporal_rule="grid_index",
        who_agrees="Qwen's published rope2d.py, transformers up to 5.0 and vLLM",
    ),
    rotary=RotaryLayout(axes="sectioned", pairs="halves", sections=(16, 24, 24)),
    tokens=Tokens(),
    modules=Modules(
        vision="model.visual",
        patch_embedding="model.visual.patch_embed",
        vision_blocks="model.visual.blocks",
        projectors=("model.visual.merger",),
        language="model.language_model",
        language_blocks="model.language_model.layers",
        embeddings="model.language_model.embed_tokens",
        head="lm_head",
    ),
    box_space="thousandths",
    box_text="tokens",
    frame_rule="arange_truncated",
    video_budget="per_frame",
)
