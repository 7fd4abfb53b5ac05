"""Baidu's two: ERNIE-4.5-VL and PaddleOCR-VL.

ERNIE merges every two temporal grids of a video, and places what follows after the maximum of
all three axes: `_compute_3d_positions` and `cur_position` in its published
``processing_ernie4_5_vl.py``.
"""

from __future__ import annotations

from sightline.families.qwen2_vl import QWEN2_VL
from sightline.families.record import ConfigFields, Family, RopeLayout, RotaryLayout

ERNIE4_5_VL_MOE = Family(
    key="ernie4_5_vl_moe",
    title="ERNIE-4.5-VL",
    rope=RopeLayout(
        temporal_rule="grid_index",
        temporal_merge_size=2,
        who_agrees="the processing code that Baidu published with its checkpoints",
    ),
    rotary=RotaryLayout(axes="height_width_time", pairs="neighbours", sections=(22, 22, 20)),
    config=ConfigFields(temporal_merge_size="vision_config.temporal_merge_size"),
)

PADDLEOCR_VL = Family(
    key="paddleocr_vl",
    title="PaddleOCR-VL",
    rope=RopeLayout(
        temporal_rule="grid_index",
        takes_videos=False,
        who_agrees="transformers, and the modeling code published with its checkpoints",
    ),
    rotary=QWEN2_VL.rotary,
)
