"""The thinkers of Qwen2.5-Omni and Qwen3-Omni: text, images, videos, and audio as text.

Audio tokens take one position each, as text does. Audio woven into a video
(``use_audio_in_video``) is outside the engine: its placeholders are refused, because the runs
of video tokens are broken up.
"""

from __future__ import annotations

from dataclasses import replace

from sightline.families.qwen2_5_vl import QWEN2_5_VL
from sightline.families.qwen3_vl import QWEN3_VL
from sightline.families.record import ConfigFields, Family, RopeLayout

_THINKER = ConfigFields(
    root="thinker_config",
    tokens_per_second="position_id_per_seconds",
    released=(
        ("audio_token_id", 151646),
        ("vision_start_token_id", 151652),
        ("vision_end_token_id", 151653),
    ),
)
_ROPE = RopeLayout(
    temporal_rule="seconds",
    tokens_per_second=25.0,
    who_agrees="transformers, where its code was published",
)

QWEN2_5_OMNI = Family(
    key="qwen2_5_omni",
    title="Qwen2.5-Omni",
    rope=_ROPE,
    rotary=QWEN2_5_VL.rotary,
    config=_THINKER,
    other_model_types=("qwen2_5_omni_thinker",),
)

QWEN3_OMNI_MOE = Family(
    key="qwen3_omni_moe",
    title="Qwen3-Omni",
    rope=replace(_ROPE, tokens_per_second=13.0, keeps_fractions=True),
    rotary=QWEN3_VL.rotary,
    config=_THINKER,
    other_model_types=("qwen3_omni_moe_thinker",),
)
