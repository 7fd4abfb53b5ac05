"""Tiny models of every family, made on the spot."""

from sightline.model.tiny.build import TINY_FAMILIES, make_tiny_model

__all__ = ["TINY_FAMILIES", "make_tiny_model"]
