"""Qwen2.5-VL."""

from __future__ import annotations

from dataclasses import replace

from sightline.families.qwen2_vl import QWEN2_VL
from sightline.families.record import Family, RopeLayout, Tokens

QWEN2_5_VL = Family(
    key="qwen2_5_vl",
    title="Qwen2.5-VL",
    tokens=Tokens(),
    rope=RopeLayout(
        temporal_rule="seconds",
        who_agrees="Qwen's published rope2d.py, transformers 4.49 and vLLM",
    ),
    # gate, up and down are also the names of the decoder's: a bare name would hit both towers.
    modules=replace(
        QWEN2_VL.modules,
        vision_lora=("attn.qkv", "attn.proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
    ),
    box_space="resized_pixels",
    frame_rule="arange_truncated",
    video_budget="per_frame",
)
