"""GLM-4.1V, GLM-4.5V, GLM-4.6V and GLM-OCR.

A frame of a video is written with the image placeholder; what makes it a frame is that it
stands between the tokens that open and close a video.
"""

from __future__ import annotations

from sightline.families.record import Family, RopeLayout, RotaryLayout

_ROPE = RopeLayout(
    temporal_rule="frame_per_span",
    frames_are_images=True,
    who_agrees="transformers, where its code was published",
)
_NEIGHBOURS = RotaryLayout(axes="sectioned", pairs="neighbours", sections=(8, 12, 12))

GLM4V = Family(key="glm4v", title="GLM-4V", rope=_ROPE, rotary=_NEIGHBOURS)
GLM4V_MOE = Family(
    key="glm4v_moe",
    title="GLM-4.5V",
    rope=_ROPE,
    rotary=RotaryLayout(axes="sectioned", pairs="halves", sections=(8, 12, 12)),
)
GLM46V = Family(key="glm46v", title="GLM-4.6V", rope=_ROPE, rotary=_NEIGHBOURS)
GLM_OCR = Family(key="glm_ocr", title="GLM-OCR", rope=_ROPE, rotary=_NEIGHBOURS)
