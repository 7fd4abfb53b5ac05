"""A conversation that goes on with a kept cache: which images and videos are still to be read.

The whole conversation places every token. The model must be given only the pixels whose
placeholders are not in the cache: with all of them, features outnumber placeholders.
"""

from __future__ import annotations

from typing import Any

import torch

from sightline.errors import LayoutError
from sightline.positions import PositionRule, placeholder_kinds

_KINDS = (("image", 1, "pixel_values"), ("video", 2, "pixel_values_videos"))


def media_to_come(
    kwargs: dict[str, Any], input_ids: torch.Tensor, num_cached: int, rule: PositionRule
) -> dict[str, Any]:
    """The arguments of a call without the media that the cache holds.

    Args:
        kwargs: Arguments of ``generate``, with the grids of the whole conversation.
        input_ids: (batch, seq) the whole conversation.
        num_cached: Tokens in the cache, padding included.
        rule: The checkpoint's rule.

    Raises:
        LayoutError: The cache ends inside a vision span, or the pixels are neither those of the
            whole conversation nor those of its new part.
    """
    made = dict(kwargs)
    kinds = torch.from_numpy(placeholder_kinds(input_ids.cpu().numpy(), rule))
    for kind, number, pixels_key in _KINDS:
        grids = kwargs.get(f"{kind}_grid_thw")
        if grids is None:
            continue
        to_come = _to_come(kinds == number, grids, num_cached, kind, rule)
        _cut_pixels(made, pixels_key, grids, to_come, kind)
        made[f"{kind}_grid_thw"] = grids[to_come]
        seconds = kwargs.get("second_per_grid_ts")
        if kind == "video" and seconds is not None:
            made["second_per_grid_ts"] = torch.as_tensor(seconds)[to_come]
        if not bool(to_come.any()):
            for key in (f"{kind}_grid_thw", pixels_key):
                made.pop(key, None)
            if kind == "video":
                made.pop("second_per_grid_ts", None)
    return made


def _to_come(
    is_placeholder: torch.Tensor,
    grids: torch.Tensor,
    num_cached: int,
    kind: str,
    rule: PositionRule,
) -> torch.Tensor:
    """(num_media,) bool: whose placeholders come after the cache."""
    tokens = grids.prod(dim=-1) // rule.spatial_merge_size**2
    if kind == "video":
        tokens = tokens // torch.where(grids[:, 0] > 1, rule.temporal_merge_size, 1)
    after = torch.zeros(len(grids), dtype=torch.bool, device=grids.device)
    medium = 0
    for row in is_placeholder:
        cached, left = int(row[:num_cached].sum()), int(row.sum())
        while left > 0:
            count = int(tokens[medium])
            if 0 < cached < count:
                raise LayoutError(
                    f"the cache ends inside the {count} tokens of {kind} {medium}, after "
                    f"{cached} of them. Crop it to before the {kind}."
                )
            after[medium] = cached == 0
            cached, left, medium = max(cached - count, 0), left - count, medium + 1
    return after


def _cut_pixels(
    made: dict[str, Any], key: str, grids: torch.Tensor, to_come: torch.Tensor, kind: str
) -> None:
    pixels = made.get(key)
    if pixels is None:
        return
    patches = grids.prod(dim=-1)
    every, new = int(patches.sum()), int(patches[to_come].sum())
    if len(pixels) == every:
        made[key] = pixels[torch.repeat_interleave(to_come, patches).to(pixels.device)]
    elif len(pixels) != new:
        raise LayoutError(
            f"{key} holds {len(pixels)} patches: the {kind}s of the conversation have {every}, "
            f"those that the cache does not hold {new}. Pass either."
        )
