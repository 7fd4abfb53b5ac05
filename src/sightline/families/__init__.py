"""One record per model family. The only room that knows a ``model_type``."""

from sightline.families.record import Family, Modules, RopeLayout, Tokens
from sightline.families.registry import FAMILIES, family_of

__all__ = ["FAMILIES", "Family", "Modules", "RopeLayout", "Tokens", "family_of"]
