"""Qwen3-VL, dense."""

from __future__ import annotations

from sightline.families.qwen2_vl import DECODER_LINEARS
from sightline.families.record import Family, Modules, RopeLayout, Tokens

QWEN3_VL = Family(
    key="qwen3_vl",
    title="Qwen3-VL",
    tokens=Tokens(),
    rope=RopeLayout(
        temporal_rule="frame_per_span",
        who_agrees="Qwen's published rope2d.py, transformers from 5.9 and vLLM",
    ),
    modules=Modules(
        vision="model.visual",
        vision_blocks="model.visual.blocks",
        projectors=("model.visual.merger", "model.visual.deepstack_merger_list"),
        language="model.language_model",
        language_blocks="model.language_model.layers",
        embeddings="model.language_model.embed_tokens",
        head="lm_head",
        vision_lora=("attn.qkv", "attn.proj", "mlp.linear_fc1", "mlp.linear_fc2"),
        projector_lora=("linear_fc1", "linear_fc2"),
        language_lora=DECODER_LINEARS,
    ),
    box_space="thousandths",
    frame_rule="linspace_rounded",
    video_budget="whole_video",
)
