"""Making every call of a model follow Sightline's position engine.

transformers computes positions inside the model when none are passed: from
``mm_token_type_ids`` when those are there, as 1-D text positions without a warning when they are
not, and with ``rope_deltas`` left behind by an earlier call while decoding. From 5.3 on it also
misplaces text after a video in Qwen2-VL and Qwen2.5-VL. None of that is reached here: positions
are computed by the engine before the model runs, and a call that cannot be placed is refused. So
are calls that would run and be wrong for another reason (`sightline.model.calls`).
"""

from __future__ import annotations

import functools
from contextvars import ContextVar
from types import MethodType
from typing import Any

import torch
from transformers import PreTrainedModel

from sightline.errors import LayoutError
from sightline.model.calls import (
    refuse_boolean_mask,
    refuse_checkpointed_generation,
    refuse_leaking_row,
    refuse_missing_pixels,
)
from sightline.model.conversation import media_to_come
from sightline.model.frequencies import hold_frequencies, refuse_rounded_frequencies
from sightline.positions import PositionRule, place_batch, refuse_flat, refuse_misplaced

_GRIDS = ("image_grid_thw", "video_grid_thw", "second_per_grid_ts")
_generating: ContextVar[bool] = ContextVar("generating", default=False)


def follow_engine(
    model: PreTrainedModel, rule: PositionRule, *, check_given: bool = True
) -> PreTrainedModel:
    """Route ``forward`` and ``generate`` of a loaded model through the position engine.

    Args:
        model: A conditional-generation model, before or after PEFT wraps it.
        rule: The checkpoint's position rule.
        check_given: Whether ``position_ids`` that a caller gives are held against the engine's,
            value by value. It costs about a millisecond and, on a GPU, a wait for the device;
            a trainer whose collator has checked them can leave it out.

    Returns:
        The same model. Its class and its weights are untouched.
    """
    kind: Any = type(model)
    hold_frequencies(model)

    # Methods of the instance, not hooks: PEFT calls `forward` directly and would skip a hook.
    # They call the class's own with the instance they are bound to, so that a deep copy of the
    # model runs with its own weights.
    @functools.wraps(kind.forward)
    def forward(self: PreTrainedModel, *args: Any, **kwargs: Any) -> Any:
        if not _generating.get():
            _place_call(self, args, kwargs, rule, check_given=check_given)
        return kind.forward(self, *args, **kwargs)

    @functools.wraps(kind.generate)
    def generate(self: PreTrainedModel, *args: Any, **kwargs: Any) -> Any:
        kwargs = _place_generate(self, args, kwargs, rule)
        token = _generating.set(True)
        try:
            return kind.generate(self, *args, **kwargs)
        finally:
            _generating.reset(token)

    # Attributes of the instance: set past nn.Module, which keeps only modules and tensors.
    object.__setattr__(model, "forward", MethodType(forward, model))
    object.__setattr__(model, "generate", MethodType(generate, model))
    return model


def _place_call(
    model: PreTrainedModel,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    rule: PositionRule,
    *,
    check_given: bool,
) -> None:
    """Put the positions of a forward call into its arguments, or check those that are there."""
    ids = kwargs.get("input_ids", args[0] if args else None)
    given = kwargs.get("position_ids")
    cache = kwargs.get("past_key_values")
    num_cached = cache.get_seq_length() if cache is not None else 0
    mask = kwargs.get("attention_mask")
    inputs = {key: kwargs.get(key) for key in _GRIDS}
    inputs["attention_mask"] = mask if mask is not None and mask.ndim == 2 else None
    if check_given or given is None:
        refuse_rounded_frequencies(model)
        refuse_boolean_mask(model, mask)
        if ids is not None:
            refuse_missing_pixels(ids, kwargs, rule)
    if given is not None:
        refuse_flat(given)
        if check_given and ids is not None and num_cached == 0:
            refuse_misplaced(ids, given, rule, **inputs)
            refuse_leaking_row(model, given, mask, kwargs.get("use_cache"))
        return
    if ids is None:
        raise LayoutError(
            "the model was called with inputs_embeds and without position_ids: it would place "
            "images as text. Pass input_ids, or explicit position_ids."
        )
    if num_cached > 0:
        raise LayoutError(
            f"the model was called with {num_cached} cached tokens and without position_ids: it "
            "would continue from whatever sample ran last. Pass position_ids of the new tokens: "
            "the last columns of what place_batch makes of the whole sequence."
        )
    kwargs["position_ids"] = place_batch(ids, rule, **inputs).model_position_ids


def _place_generate(
    model: PreTrainedModel, args: tuple[Any, ...], kwargs: dict[str, Any], rule: PositionRule
) -> dict[str, Any]:
    """The arguments of a generate call with explicit positions and the media still to come."""
    ids = kwargs.get("input_ids", kwargs.get("inputs", args[0] if args else None))
    if ids is None or ids.is_floating_point():
        raise LayoutError(
            "generate was called with inputs_embeds alone: without token ids images and videos "
            "cannot be placed. Pass input_ids."
        )
    mask = kwargs.get("attention_mask")
    refuse_checkpointed_generation(model)
    refuse_rounded_frequencies(model)
    _refuse_wrong_padding(model, ids, mask)
    cache = kwargs.get("past_key_values")
    num_cached = 0 if cache is None else cache.get_seq_length()
    refuse_missing_pixels(ids[:, num_cached:], kwargs, rule)
    inputs = {key: kwargs.get(key) for key in _GRIDS}
    given = kwargs.get("position_ids")
    if given is None:
        placed = place_batch(ids, rule, attention_mask=mask, **inputs)
        # generate slices the uncached tail of these itself, and counts on from the last one.
        kwargs = kwargs | {"position_ids": placed.model_position_ids}
    else:
        refuse_misplaced(ids, given, rule, attention_mask=mask, **inputs)
        # It keeps a cache: packed samples could only be told apart without one.
        refuse_leaking_row(model, given, mask, use_cache=True)
    return media_to_come(kwargs, ids, num_cached, rule) if num_cached else kwargs


def _refuse_wrong_padding(
    model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor | None
) -> None:
    if mask is not None:
        rows = (mask[:, -1] == 0).nonzero().flatten().tolist()
        if rows:
            raise LayoutError(
                f"generate was called with row {rows[0]} padded on the right: the answer would "
                "follow padding. Use padding_side='left'."
            )
        return
    pad = model.generation_config.pad_token_id if model.generation_config else None
    if pad is not None and ids.shape[0] > 1 and bool((ids[:, 0] == pad).any()):
        row = int((ids[:, 0] == pad).nonzero()[0])
        raise LayoutError(
            f"generate was called without attention_mask, and row {row} begins with padding "
            f"(token {pad}): it would be taken for text. Pass the processor's attention_mask."
        )
