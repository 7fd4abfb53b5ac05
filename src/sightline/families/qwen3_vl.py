"""Qwen3-VL, dense and with experts."""

from __future__ import annotations

from dataclasses import replace

from sightline.families.qwen2_vl import QWEN2_VL
from sightline.families.record import (
    MappedFamily,
    RopeLayout,
    RotaryLayout,
    Tokens,
    TrainableFamily,
)

QWEN3_VL = TrainableFamily(
    key="qwen3_vl",
    title="Qwen3-VL",
    rope=RopeLayout(
        temporal_rule="frame_per_span",
        who_agrees="Qwen's published rope2d.py, transformers from 5.9 and vLLM",
    ),
    rotary=RotaryLayout(axes="interleaved", pairs="halves", sections=(24, 20, 20)),
    tokens=Tokens(),
    modules=replace(
        QWEN2_VL.modules,
        projectors=("model.visual.merger", "model.visual.deepstack_merger_list"),
        deepstack_blocks="vision_config.deepstack_visual_indexes",
    ),
    box_space="thousandths",
    box_text="list",
    frame_rule="linspace_rounded",
    video_budget="whole_video",
)

# The decoder's experts are fused tensors: a plan may freeze them or train them in full.
QWEN3_VL_MOE = MappedFamily(
    key="qwen3_vl_moe",
    title="Qwen3-VL-MoE",
    rope=QWEN3_VL.rope,
    rotary=QWEN3_VL.rotary,
    modules=QWEN3_VL.modules,
)
