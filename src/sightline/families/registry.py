"""Which family a checkpoint belongs to."""

from __future__ import annotations

import difflib

from sightline.errors import ModelError
from sightline.families.glm4v import GLM4V, GLM4V_MOE, GLM46V, GLM_OCR
from sightline.families.omni import QWEN2_5_OMNI, QWEN3_OMNI_MOE
from sightline.families.paddle import ERNIE4_5_VL_MOE, PADDLEOCR_VL
from sightline.families.qwen2_5_vl import QWEN2_5_VL
from sightline.families.qwen2_vl import QWEN2_VL
from sightline.families.qwen3_5 import QWEN3_5, QWEN3_5_MOE
from sightline.families.qwen3_vl import QWEN3_VL, QWEN3_VL_MOE
from sightline.families.record import Family, MappedFamily, TrainableFamily

TRAINABLE_FAMILIES: dict[str, TrainableFamily] = {
    family.key: family for family in (QWEN2_VL, QWEN2_5_VL, QWEN3_VL)
}
"""Families that ``sightline train`` fine-tunes."""

FAMILIES: dict[str, Family] = {
    **TRAINABLE_FAMILIES,
    **{
        family.key: family
        for family in (
            QWEN3_VL_MOE,
            QWEN3_5,
            QWEN3_5_MOE,
            QWEN2_5_OMNI,
            QWEN3_OMNI_MOE,
            GLM4V,
            GLM4V_MOE,
            GLM46V,
            GLM_OCR,
            ERNIE4_5_VL_MOE,
            PADDLEOCR_VL,
        )
    },
}
"""Families whose positions and rotary embedding Sightline computes."""

_BY_MODEL_TYPE = FAMILIES | {
    name: family for family in FAMILIES.values() for name in family.other_model_types
}


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
    if model_type in _BY_MODEL_TYPE:
        return _BY_MODEL_TYPE[model_type]
    raise _unknown(model_type, source, tuple(_BY_MODEL_TYPE))


def trainable_family_of(model_type: str, *, source: str) -> TrainableFamily:
    """The family of a checkpoint that is to be fine-tuned.

    Args:
        model_type: ``config.model_type`` of the checkpoint.
        source: The checkpoint's folder or hub id, for the message.

    Raises:
        ModelError: There is no record, or one for positions alone.
    """
    if model_type in TRAINABLE_FAMILIES:
        return TRAINABLE_FAMILIES[model_type]
    if model_type in _BY_MODEL_TYPE:
        raise ModelError(
            f"{source}: model_type {model_type!r} ({_BY_MODEL_TYPE[model_type].title}) is known "
            "for its positions only; Sightline does not train it yet.\n"
            f"Trained: {', '.join(TRAINABLE_FAMILIES)}. In a training script of your own, "
            "sightline.positions and sightline.model.follow_engine place this model."
        )
    raise _unknown(model_type, source, tuple(TRAINABLE_FAMILIES))


def mapped_family_of(model_type: str, *, source: str) -> MappedFamily:
    """The family of a checkpoint that is to be drawn, or planned.

    Args:
        model_type: ``config.model_type`` of the checkpoint.
        source: The checkpoint's folder or hub id, for the message.

    Raises:
        ModelError: There is no record, or one that does not know the towers.
    """
    family = family_of(model_type, source=source)
    if isinstance(family, MappedFamily):
        return family
    known = [one.key for one in FAMILIES.values() if isinstance(one, MappedFamily)]
    raise ModelError(
        f"{source}: model_type {model_type!r} ({family.title}) is known for its positions only; "
        f"its towers are not.\nMapped: {', '.join(known)}."
    )


def _unknown(model_type: str, source: str, known: tuple[str, ...]) -> ModelError:
    near = difflib.get_close_matches(model_type, known, n=1)
    hint = f" The nearest is {near[0]}." if near else ""
    return ModelError(
        f"{source}: model_type {model_type!r} in config.json is not a family that Sightline "
        f"knows.\nKnown: {', '.join(known)}.{hint} Use a checkpoint of one of these."
    )
