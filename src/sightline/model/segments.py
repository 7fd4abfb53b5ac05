"""Attention segment by segment: packed samples see themselves alone, without a mask.

A row of packed samples, or the frames and windows of a vision tower, are segments one after the
other. transformers' own paths either build a dense mask over the whole row, eight times slower on
a CPU, or call the kernel once for each segment. Here a GPU runs the variable-length kernel of torch
(or of flash-attn, where torch has none for the dtype), and everything else runs segments of one
length together.
"""

from __future__ import annotations

import math
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from sightline.families import MappedFamily

# With "flash" in its name, a vision tower hands over the segments in place of calling once for
# each (transformers 5.17 to 5.23: `is_flash_attention_requested` looks for the word).
LANGUAGE = "sightline_segments"
VISION = "sightline_flash_segments"

_row: ContextVar[Segments | None] = ContextVar("row", default=None)
_HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class Segments:
    """Where the segments of a row begin and end.

    Attributes:
        borders: (num_segments + 1,) int32 on the row's device, from 0 to its length.
        longest: Length of the longest.
        lengths: Length of each, for devices without a kernel for all of them; None elsewhere.
    """

    borders: torch.Tensor
    longest: int
    lengths: tuple[int, ...] | None

    @classmethod
    def of(cls, borders: torch.Tensor, longest: int | None = None) -> Segments:
        """Read borders; nothing waits for a GPU where the longest is given.

        Args:
            borders: (num_segments + 1,) integer, from 0 to the length of the row.
            longest: Length of the longest segment, where it is known.
        """
        if borders.device.type == "cuda" and longest is not None:
            return cls(borders.to(torch.int32), longest, None)
        ends = borders.tolist()
        lengths = tuple(stop - start for start, stop in pairwise(ends))
        lengths = tuple(length for length in lengths if length > 0)
        return cls(borders.to(torch.int32), max(lengths, default=0), lengths)


class packed_row:  # noqa: N801 - a context manager, named as what it is for
    """Tell the language model's attention where the samples of the row begin and end.

    Args:
        segments: The samples of the one row; None where rows are padded.
    """

    def __init__(self, segments: Segments | None) -> None:
        self._segments = segments

    def __enter__(self) -> None:
        self._token = _row.set(self._segments)

    def __exit__(self, *exception: object) -> None:
        _row.reset(self._token)


def attend_by_segments(model: nn.Module, family: MappedFamily) -> None:
    """Let a model's attention run segment by segment, in both towers.

    Without `packed_row` the language model attends as it did, so that ``generate`` and padded
    batches are as before.

    Args:
        model: The plain model, before PEFT wraps it.
        family: Its family, which knows where the towers are.
    """
    AttentionInterface.register(LANGUAGE, _language_attention)
    AttentionMaskInterface.register(LANGUAGE, _language_mask)
    AttentionInterface.register(VISION, _vision_attention)
    language: Any = model.get_submodule(family.modules.language)
    language.set_attn_implementation(LANGUAGE)
    language.register_forward_pre_hook(_hand_on, with_kwargs=True)
    vision: Any = model.get_submodule(family.modules.vision)
    # Its setter; `set_attn_implementation` looks for a library of that name.
    vision.config._attn_implementation = VISION


def unpackable(config: Any) -> str | None:
    """Why samples cannot be packed for a model; None where they can.

    Args:
        config: The checkpoint's configuration.
    """
    layers = set(getattr(config.text_config, "layer_types", None) or ["full_attention"])
    others = sorted(layers - {"full_attention"})
    if others:
        return (
            f"layers of {' and '.join(others)} in it read across the borders of samples: only "
            "full_attention can be held inside them"
        )
    return None


def _hand_on(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Give the segments to every layer as an argument.

    An argument, since checkpointing runs a layer again in the backward pass, where the context of
    the forward pass is gone.
    """
    segments = _row.get()
    return (args, kwargs | {"segments": segments}) if segments is not None else None


def _language_mask(*args: Any, **kwargs: Any) -> torch.Tensor | None:
    return None if _row.get() is not None else sdpa_mask(*args, **kwargs)


def _language_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    segments: Segments | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """(batch, num_heads, seq, head_dim) to (batch, seq, num_heads, head_dim)."""
    if segments is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    return _attend(query, key, value, segments, causal=True, dropout=dropout, scale=scaling), None


def _vision_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    cu_seq_lens_q: torch.Tensor,
    max_length_q: Any = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """(1, num_heads, patches, head_dim) to (1, patches, num_heads, head_dim)."""
    longest = int(max_length_q) if max_length_q is not None else None
    segments = Segments.of(cu_seq_lens_q, longest)
    return _attend(query, key, value, segments, causal=False, dropout=dropout, scale=scaling), None


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    segments: Segments,
    *,
    causal: bool,
    dropout: float,
    scale: float | None,
) -> torch.Tensor:
    """One row of segments: (1, num_heads, seq, head_dim) to (1, seq, num_heads, head_dim)."""
    groups = query.shape[1] // key.shape[1]
    if query.is_cuda and query.dtype in _HALF and dropout == 0:
        return _by_kernel(query, key, value, segments, causal=causal, scale=scale, groups=groups)
    lengths = segments.lengths
    if lengths is None:
        lengths = Segments.of(segments.borders).lengths
        assert lengths is not None
    if groups > 1:
        key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    given = {"is_causal": causal, "dropout_p": dropout, "scale": scale}
    if len(lengths) == 1:
        return functional.scaled_dot_product_attention(query, key, value, **given).transpose(1, 2)
    return _together(query, key, value, lengths, given)


def _together(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: tuple[int, ...],
    given: dict[str, Any],
) -> torch.Tensor:
    """Segments that follow each other and are of one length go through the kernel as a batch."""
    runs: list[list[int]] = []
    for length in lengths:
        if runs and runs[-1][0] == length:
            runs[-1][1] += 1
        else:
            runs.append([length, 1])
    sizes = [length * count for length, count in runs]
    parts = []
    split = (tensor[0].split(sizes, dim=1) for tensor in (query, key, value))
    for (length, count), *run in zip(runs, *split, strict=True):
        # (num_heads, count * length, head_dim) to (count, num_heads, length, head_dim)
        heads = [part.unflatten(1, (count, length)).transpose(0, 1) for part in run]
        made = functional.scaled_dot_product_attention(heads[0], heads[1], heads[2], **given)
        parts.append(made.transpose(1, 2).flatten(0, 1))
    return torch.cat(parts)[None]


def _by_kernel(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    segments: Segments,
    *,
    causal: bool,
    scale: float | None,
    groups: int,
) -> torch.Tensor:
    """All segments in one call of a variable-length kernel."""
    flat = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]
    scale = scale if scale is not None else 1 / math.sqrt(query.shape[-1])
    borders, longest = segments.borders, segments.longest
    if groups > 1:
        # Kernels of torch before 2.12 take as many heads of keys as of queries only.
        flat[1] = flat[1].repeat_interleave(groups, dim=1)
        flat[2] = flat[2].repeat_interleave(groups, dim=1)
    from torch.nn.attention.varlen import varlen_attn

    made: Any = varlen_attn(
        flat[0].contiguous(),
        flat[1].contiguous(),
        flat[2].contiguous(),
        borders,
        borders,
        longest,
        longest,
        scale=scale,
        window_size=(-1, 0) if causal else (-1, -1),
    )
    return made[None]
