"""Turning queries and keys."""

from __future__ import annotations

import torch

from sightline.errors import LayoutError
from sightline.families.record import PairRule


def apply_mrope(
    query: torch.Tensor,
    key: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    *,
    pairs: PairRule = "halves",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn queries and keys by the angles of their positions.

    The turn is made in float32 and the result has the dtype that came in: in bf16 the products
    alone would cost another 3 digits.

    Args:
        query: (batch, heads, seq, head_dim), any float dtype.
        key: (batch, kv_heads, seq, head_dim).
        cos: (batch, seq, rotary_dim) float32, from `MRotaryEmbedding`.
        sin: As ``cos``.
        pairs: ``halves``: dimension i turns with i + rotary_dim / 2. ``neighbours``: 2i with
            2i + 1. Dimensions from rotary_dim on are left alone.

    Raises:
        LayoutError: The head is narrower than the rotary embedding.
    """
    if query.shape[-1] < cos.shape[-1]:
        raise LayoutError(
            f"heads have {query.shape[-1]} dimensions, but the rotary embedding {cos.shape[-1]}."
        )
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    return _turn(query, cos, sin, pairs), _turn(key, cos, sin, pairs)


def _turn(
    states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, pairs: PairRule
) -> torch.Tensor:
    rotary_dim = cos.shape[-1]
    turned = states[..., :rotary_dim].float()
    if pairs == "halves":
        first, second = turned.chunk(2, dim=-1)
        quarter = torch.cat((-second, first), dim=-1)
    else:
        quarter = torch.stack((-turned[..., 1::2], turned[..., 0::2]), dim=-1).flatten(-2)
    turned = (turned * cos + quarter * sin).to(states.dtype)
    if rotary_dim == states.shape[-1]:
        return turned
    return torch.cat((turned, states[..., rotary_dim:]), dim=-1)
