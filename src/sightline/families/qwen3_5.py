"""Qwen3.5, dense and with experts: linear attention in most layers, M-RoPE in the others."""

from __future__ import annotations

from dataclasses import replace

from sightline.families.qwen3_vl import QWEN3_VL
from sightline.families.record import Family

_ROPE = replace(QWEN3_VL.rope, who_agrees="transformers from 5.9, where its code was published")

_ROTARY = replace(QWEN3_VL.rotary, sections=(11, 11, 10))

QWEN3_5 = Family(key="qwen3_5", title="Qwen3.5", rope=_ROPE, rotary=_ROTARY)
QWEN3_5_MOE = Family(key="qwen3_5_moe", title="Qwen3.5-MoE", rope=_ROPE, rotary=_ROTARY)
