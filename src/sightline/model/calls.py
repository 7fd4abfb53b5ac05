"""Calls that a model answers without a word, and wrongly: refused before it runs.

Measured on transformers 5.23, where each of them moves logits by whole units. `follow_engine` asks
these of every call whose positions it checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedModel

from sightline.errors import LayoutError
from sightline.model.segments import unpackable
from sightline.positions import PositionRule


def refuse_missing_pixels(
    input_ids: torch.Tensor, given: Mapping[str, Any], rule: PositionRule
) -> None:
    """Refuse placeholders whose pixels are not there: the model would read the bare placeholders.

    Args:
        input_ids: (batch, seq) int64, without the tokens that a cache holds already.
        given: The other arguments of the call.
        rule: The checkpoint's position rule.

    Raises:
        LayoutError: How many placeholders there are, and which argument is missing.
    """
    has_videos = given.get("pixel_values_videos") is not None
    # Some families write the frames of a video with the placeholder of images.
    has_images = given.get("pixel_values") is not None or (
        rule.rope.frames_are_images and has_videos
    )
    for kind, token, name, is_there in (
        ("image", rule.image_token_id, "pixel_values", has_images),
        ("video", rule.video_token_id, "pixel_values_videos", has_videos),
    ):
        if is_there or token is None:
            continue
        number = int((input_ids == token).sum())
        if number:
            raise LayoutError(
                f"the model was called with {number} {kind} placeholders and without {name}: it "
                "would read the placeholders themselves and answer all the same. Pass everything "
                "that the processor returned."
            )


def refuse_leaking_row(
    model: PreTrainedModel,
    position_ids: torch.Tensor,
    attention_mask: torch.Tensor | None,
    use_cache: bool | None,
) -> None:
    """Refuse a packed row in which the samples would see each other.

    transformers tells samples apart by the text row only where there is neither a mask nor a
    cache; and a cache there is unless the call itself says no, whatever ``config.use_cache`` says.
    Layers of linear attention read across the borders in any case.

    Args:
        model: The model that is called.
        position_ids: (4, batch, seq) with the text row first; of 3 rows nothing is known here.
        attention_mask: As given; None for none.
        use_cache: As given; None for not given.

    Raises:
        LayoutError: What of the call joins the samples.
    """
    if position_ids.shape[0] != 4 or (attention_mask is not None and attention_mask.ndim != 2):
        return
    starts = position_ids[0] == 0
    if attention_mask is not None:
        # Padding has the position 0 too.
        starts = starts & (attention_mask != 0).to(starts.device)
    most = int(starts.sum(dim=1).max())
    if most < 2:
        return
    why = unpackable(model.config)
    if why is not None:
        raise LayoutError(
            f"a packed row of {most} samples, which would see each other: {why}. Give each sample "
            "a row of its own."
        )
    if attention_mask is not None:
        what = "a 2-D attention_mask. Leave the mask out"
    elif use_cache is not False:
        what = "a cache. Pass use_cache=False; config.use_cache is not read here"
    else:
        return
    raise LayoutError(f"a packed row of {most} samples, which would see each other through {what}.")


def refuse_boolean_mask(model: PreTrainedModel, attention_mask: torch.Tensor | None) -> None:
    """Refuse a 4-D boolean mask under eager attention, which adds it: True is 1, not "keep".

    Raises:
        LayoutError: Names what would be right.
    """
    if attention_mask is None or attention_mask.ndim != 4 or attention_mask.dtype != torch.bool:
        return
    if model.config.get_text_config()._attn_implementation == "eager":
        raise LayoutError(
            "the model was called with a 4-D boolean attention_mask, which eager attention adds to "
            "its scores: nothing would be masked. Give it as float, 0 for seen and the lowest "
            "number for hidden, or load the model with attn_implementation='sdpa'."
        )


def refuse_checkpointed_generation(model: PreTrainedModel) -> None:
    """Refuse to generate while checkpointing has turned the cache off.

    ``generate`` hands over one token a step all the same, which then sees nothing before it.

    Raises:
        LayoutError: Always in training mode with gradient checkpointing.
    """
    if model.training and model.is_gradient_checkpointing:
        raise LayoutError(
            "generate was called in training mode with gradient checkpointing, which turns the "
            "cache off: every new token would be written without the ones before it. Call "
            "model.eval() first."
        )
