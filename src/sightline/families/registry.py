"""Which family a checkpoint belongs to."""

from __future__ import annotations

import difflib

from sightline.errors import ModelError
from sightline.families.qwen2_5_vl import QWEN2_5_VL
from sightline.families.qwen2_vl import QWEN2_VL
from sightline.families.qwen3_vl import QWEN3_VL
from sightline.families.record import Family

FAMILIES: dict[str, Family] = {family.key: family for family in (QWEN2_VL, QWEN2_5_VL, QWEN3_VL)}


def family_of(model_type: str, *, source: str) -> Family:
    """The family of a checkpoint.

    Args:
        model_type: ``config.model_type`` of the checkpoint. A path or a hub id says nothing.
        source: The checkpoint's folder or hub id, for the message.

    Raises:
        ModelError: Sightline has no record for that model type.

    >>> family_of("qwen2_5_vl", source="a/folder").title
    'Qwen2.5-VL'
    """
    if model_type in FAMILIES:
        return FAMILIES[model_type]
    known = ", ".join(FAMILIES)
    near = difflib.get_close_matches(model_type, FAMILIES, n=1)
    hint = f" The nearest is {near[0]}." if near else ""
    raise ModelError(
        f"{source}: model_type {model_type!r} in config.json is not a family that Sightline "
        f"knows.\nKnown: {known}.{hint} Use a checkpoint of one of these."
    )
