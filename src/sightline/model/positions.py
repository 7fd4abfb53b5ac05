"""Making every call of a model follow Sightline's position engine.

transformers computes positions inside the model when none are passed: from
``mm_token_type_ids`` when those are there, as 1-D text positions without a warning when they are
not, and with ``rope_deltas`` left behind by an earlier call while decoding. From 5.3 on it also
misplaces text after a video in Qwen2-VL and Qwen2.5-VL. None of that is reached here: positions
are computed by the engine before the model runs, and a call that cannot be placed is refused.
"""

from __future__ import annotations

import functools
from types import MethodType
from typing import Any

import torch
from transformers import PreTrainedModel

from sightline.errors import LayoutError
from sightline.positions import PositionRule, place_batch

_GRIDS = ("image_grid_thw", "video_grid_thw", "second_per_grid_ts")


def follow_engine(model: PreTrainedModel, rule: PositionRule) -> PreTrainedModel:
    """Route ``forward`` and ``generate`` of a loaded model through the position engine.

    Args:
        model: A conditional-generation model, before or after PEFT wraps it.
        rule: The checkpoint's position rule.

    Returns:
        The same model. Its class and its weights are untouched.
    """

    def prepare(self: PreTrainedModel, inputs_tensor: torch.Tensor, model_kwargs: dict[str, Any]):
        ids = model_kwargs.get("input_ids")
        if ids is None or ids.shape[1] == 0:
            ids = inputs_tensor
        if ids.is_floating_point():
            raise LayoutError(
                "generate was called with inputs_embeds alone: without token ids images and "
                "videos cannot be placed. Pass input_ids."
            )
        placed = place_batch(
            ids,
            rule,
            attention_mask=model_kwargs.get("attention_mask"),
            **{key: model_kwargs.get(key) for key in _GRIDS},
        )
        # generate slices the uncached tail of these itself, also for a conversation that goes on.
        return placed.model_position_ids

    plain_forward = model.forward

    # An instance's forward, not a hook: PEFT calls `forward` directly and would skip a hook.
    @functools.wraps(plain_forward)
    def placed_forward(*args: Any, **kwargs: Any) -> Any:
        positions = kwargs.get("position_ids")
        if positions is None:
            kwargs["position_ids"] = _place_call(kwargs, args, rule)
        else:
            _refuse_flat(positions)
        return plain_forward(*args, **kwargs)

    # Attributes of the instance: set past nn.Module, which keeps only modules and tensors.
    object.__setattr__(model, "_prepare_position_ids_for_generation", MethodType(prepare, model))
    object.__setattr__(model, "forward", placed_forward)
    return model


def _place_call(kwargs: dict[str, Any], args: tuple, rule: PositionRule) -> torch.Tensor:
    """Positions of a forward call that came without any."""
    ids = kwargs.get("input_ids", args[0] if args else None)
    if ids is None:
        raise LayoutError(
            "the model was called with inputs_embeds and without position_ids: it would place "
            "images as text. Pass input_ids, or explicit position_ids."
        )
    cache = kwargs.get("past_key_values")
    if cache is not None and cache.get_seq_length() > 0:
        raise LayoutError(
            f"the model was called with {cache.get_seq_length()} cached tokens and without "
            "position_ids: it would continue from whatever sample ran last. Pass position_ids "
            "of the new tokens."
        )
    mask = kwargs.get("attention_mask")
    placed = place_batch(
        ids,
        rule,
        attention_mask=mask if mask is not None and mask.ndim == 2 else None,
        **{key: kwargs.get(key) for key in _GRIDS},
    )
    return placed.model_position_ids


def _refuse_flat(positions: torch.Tensor) -> None:
    if positions.ndim != 3 or positions.shape[0] not in (3, 4):
        raise LayoutError(
            f"position_ids of shape {tuple(positions.shape)}: these models take (3, batch, seq), "
            "or (4, batch, seq) with the text row first. Anything else runs as 1-D positions."
        )
