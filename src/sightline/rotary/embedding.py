"""From positions to angles, once a batch.

rotary = MRotaryEmbedding(head_dim=64, sections=(8, 12, 12), theta=1e6)
cos, sin = rotary(position_ids)                   # (3, batch, seq) -> (batch, seq, 64)
query, key = apply_mrope(query, key, cos, sin)    # in every layer
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import nn

from sightline.errors import LayoutError, ModelError
from sightline.families import RotaryLayout, family_of
from sightline.families.record import AxisRule, PairRule
from sightline.rotary.axes import axis_of_pairs


class MRotaryEmbedding(nn.Module):
    """Cosines and sines of M-RoPE.

    Frequencies stay float32 whatever is done to the module: ``.to(torch.bfloat16)`` or
    ``.half()`` would round them, which at position 4096 turns the fastest pair by 4.7 rad. They
    are made anew after every move, so a module that was built on the meta device is right too.

    Args:
        head_dim: Dimensions of a head.
        sections: Pairs of dimensions for each axis, as in ``mrope_section``.
        theta: Base of the frequencies.
        axes: Which pair turns with which axis; see `axis_of_pairs`.
        pairs: Which two dimensions make a pair; for `apply_mrope`, and for the order of the
            columns that come out.
        rotary_dim: Dimensions of a head that turn, twice the sum of the sections; None for all
            of them.
        inv_freq: (rotary_dim / 2,) float32. Frequencies of one's own, for a scaled RoPE such
            as YaRN; None for ``theta ** (-2i / rotary_dim)``.
        attention_scaling: Factor on cosines and sines, for a scaled RoPE.

    Raises:
        LayoutError: Sections and dimensions do not fit each other.
    """

    inv_freq: torch.Tensor
    axis_of_pair: torch.Tensor

    def __init__(
        self,
        head_dim: int,
        sections: Sequence[int],
        *,
        theta: float = 1_000_000.0,
        axes: AxisRule = "sectioned",
        pairs: PairRule = "halves",
        rotary_dim: int | None = None,
        inv_freq: torch.Tensor | None = None,
        attention_scaling: float = 1.0,
    ) -> None:
        super().__init__()
        self.rotary_dim = head_dim if rotary_dim is None else rotary_dim
        if self.rotary_dim != 2 * sum(sections) or self.rotary_dim > head_dim:
            raise LayoutError(
                f"sections {list(sections)} hold {sum(sections)} pairs, {2 * sum(sections)} "
                f"dimensions, but {self.rotary_dim} of a head's {head_dim} are to turn."
            )
        if inv_freq is not None and inv_freq.shape != (sum(sections),):
            raise LayoutError(
                f"inv_freq of shape {tuple(inv_freq.shape)} for {sum(sections)} pairs."
            )
        self.num_axes = len(sections)
        self.pairs: PairRule = pairs
        self.attention_scaling = attention_scaling
        # Plain attributes, which no cast reaches; the buffers below are made from them.
        self._theta = theta
        self._given = None if inv_freq is None else inv_freq.detach().to("cpu", torch.float32)
        self._axis_of_pair = axis_of_pairs(axes, sections)
        self._make_buffers(torch.get_default_device())

    @classmethod
    def from_config(
        cls,
        config: Any,
        *,
        inv_freq: torch.Tensor | None = None,
        attention_scaling: float = 1.0,
    ) -> Self:
        """The rotary embedding of a checkpoint.

        Args:
            config: ``model.config`` of a model of transformers, of a known family.
            inv_freq: Frequencies, for a checkpoint with a scaled RoPE.
            attention_scaling: Factor, for a checkpoint with a scaled RoPE.

        Raises:
            ModelError: The family is not known, or its RoPE is scaled and no frequencies are
                given.
        """
        family = family_of(config.model_type, source="the model")
        part = getattr(config, family.config.root, config) if family.config.root else config
        text = part.text_config
        rope: dict[str, Any] = text.rope_parameters
        rope_type = rope.get("rope_type", "default")
        if rope_type != "default" and inv_freq is None:
            raise ModelError(
                f"the model's rope_type is {rope_type!r}: its frequencies are scaled. Pass them "
                "as inv_freq with attention_scaling; transformers' rotary module has both."
            )
        layout: RotaryLayout = family.rotary
        head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        return cls(
            head_dim,
            rope.get("mrope_section", layout.sections),
            theta=rope["rope_theta"],
            axes=layout.axes,
            pairs=layout.pairs,
            rotary_dim=int(head_dim * rope.get("partial_rotary_factor", 1.0)),
            inv_freq=inv_freq,
            attention_scaling=attention_scaling,
        )

    def forward(self, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines of every token.

        Args:
            position_ids: (3, batch, seq) int64, time, height, width; or (4, batch, seq) with
                the text row first, which is not used here. As many axes as sections.

        Returns:
            Two tensors (batch, seq, rotary_dim) float32, the same for every layer.

        Raises:
            LayoutError: Positions of another shape.
        """
        if position_ids.ndim != 3 or position_ids.shape[0] not in (
            self.num_axes,
            self.num_axes + 1,
        ):
            raise LayoutError(
                f"position_ids of shape {tuple(position_ids.shape)}: ({self.num_axes}, batch, "
                "seq) is needed, one row an axis. For text alone: positions.expand(3, -1, -1)."
            )
        by_token = position_ids[-self.num_axes :].permute(1, 2, 0).float()
        angles = by_token[..., self.axis_of_pair] * self.inv_freq
        if self.pairs == "halves":
            angles = torch.cat((angles, angles), dim=-1)
        else:
            angles = angles.repeat_interleave(2, dim=-1)
        return angles.cos() * self.attention_scaling, angles.sin() * self.attention_scaling

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        """Follow the model to its device, and to no other dtype."""
        super()._apply(fn, recurse)
        self._make_buffers(self.inv_freq.device)
        return self

    def _make_buffers(self, device: torch.device) -> None:
        inv_freq = self._given
        if inv_freq is None:
            index = torch.arange(0, self.rotary_dim, 2, dtype=torch.float32, device="cpu")
            inv_freq = 1.0 / (self._theta ** (index / self.rotary_dim))
        axis_of_pair = torch.tensor(self._axis_of_pair, device="cpu")
        self.register_buffer("inv_freq", inv_freq.to(device), persistent=False)
        self.register_buffer("axis_of_pair", axis_of_pair.to(device), persistent=False)
