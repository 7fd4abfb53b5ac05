"""Sightline: fine-tune M-RoPE vision-language models and prove that the result is right."""

from __future__ import annotations

__version__ = "0.1.0"

__all__ = ["__version__"]
