"""Qwen2.5-VL."""

from __future__ import annotations

from sightline.families.qwen2_vl import QWEN2_VL
from sightline.families.record import ConfigFields, RopeLayout, Tokens, TrainableFamily

QWEN2_5_VL = TrainableFamily(
    key="qwen2_5_vl",
    title="Qwen2.5-VL",
    rope=RopeLayout(
        temporal_rule="seconds",
        tokens_per_second=2.0,
        who_agrees="Qwen's published rope2d.py, transformers 4.49 and vLLM",
    ),
    rotary=QWEN2_VL.rotary,
    config=ConfigFields(tokens_per_second="vision_config.tokens_per_second"),
    tokens=Tokens(),
    modules=QWEN2_VL.modules,
    box_space="resized_pixels",
    box_text="list",
    frame_rule="arange_truncated",
    video_budget="per_frame",
)
