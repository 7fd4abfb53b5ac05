"""Tiny models of every family, made on the spot."""

from sightline.model.tiny.build import TINY_FAMILIES, make_tiny_model
from sightline.model.tiny.configs import is_tiny

__all__ = ["TINY_FAMILIES", "is_tiny", "make_tiny_model"]
