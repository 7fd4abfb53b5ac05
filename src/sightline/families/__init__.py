"""One record per model family. The only room that knows a ``model_type``."""

from sightline.families.record import (
    BoxSpace,
    Family,
    MappedFamily,
    Modules,
    RopeLayout,
    RotaryLayout,
    Tokens,
    TrainableFamily,
)
from sightline.families.registry import (
    FAMILIES,
    TRAINABLE_FAMILIES,
    family_of,
    mapped_family_of,
    trainable_family_of,
)

__all__ = [
    "FAMILIES",
    "TRAINABLE_FAMILIES",
    "BoxSpace",
    "Family",
    "MappedFamily",
    "Modules",
    "RopeLayout",
    "RotaryLayout",
    "Tokens",
    "TrainableFamily",
    "family_of",
    "mapped_family_of",
    "trainable_family_of",
]
