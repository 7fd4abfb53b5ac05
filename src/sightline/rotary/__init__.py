"""The rotary embedding of M-RoPE, for a model of one's own."""

from sightline.rotary.apply import apply_mrope
from sightline.rotary.axes import axis_of_pairs
from sightline.rotary.embedding import MRotaryEmbedding

__all__ = ["MRotaryEmbedding", "apply_mrope", "axis_of_pairs"]
