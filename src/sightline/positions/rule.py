"""What the engine must know of one checkpoint, read from its configuration."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

from sightline.errors import ModelError
from sightline.families import RopeLayout, family_of


@dataclass(frozen=True, kw_only=True, slots=True)
class PositionRule:
    """What the engine must know of one checkpoint.

    Attributes:
        rope: The family's rule.
        image_token_id: Placeholder id of a merged image patch.
        video_token_id: Placeholder id of a merged video patch; None where there are no videos.
        spatial_merge_size: Patches per side that become one token.
        tokens_per_second: Positions a second of video takes; None where time is not scaled.
        temporal_merge_size: Temporal grids of a video that become one.
        video_start_token_id: Opens a video, where its frames are written as images.
        video_end_token_id: Closes it.
    """

    rope: RopeLayout
    image_token_id: int
    video_token_id: int | None
    spatial_merge_size: int
    tokens_per_second: float | None = None
    temporal_merge_size: int = 1
    video_start_token_id: int | None = None
    video_end_token_id: int | None = None


def position_rule(config: Any, *, source: str = "the model") -> PositionRule:
    """The rule of a checkpoint.

    Args:
        config: The configuration of a model of transformers, ``model.config``. Nothing of
            transformers is used: any object with its attributes will do.
        source: The checkpoint's folder or hub id, for messages.

    Raises:
        ModelError: The family is not known, or the configuration lacks a number it needs.
    """
    family = family_of(config.model_type, source=source)
    # A part saved alone (an Omni model's thinker) is its own root.
    part = config
    if family.config.root and hasattr(config, family.config.root):
        part = getattr(config, family.config.root)

    def number(path: str) -> Any:
        try:
            return reduce(getattr, path.split("."), part)
        except AttributeError:
            raise ModelError(
                f"{source}: config.json has no {path}, which positions of {family.title} need."
            ) from None

    rope, fields = family.rope, family.config
    marked = rope.frames_are_images
    return PositionRule(
        rope=rope,
        image_token_id=int(number("image_token_id")),
        video_token_id=int(number("video_token_id")) if rope.takes_videos else None,
        spatial_merge_size=int(number("vision_config.spatial_merge_size")),
        tokens_per_second=(
            float(number(fields.tokens_per_second)) if fields.tokens_per_second else None
        ),
        temporal_merge_size=(
            int(number(fields.temporal_merge_size)) if fields.temporal_merge_size else 1
        ),
        video_start_token_id=int(number("video_start_token_id")) if marked else None,
        video_end_token_id=int(number("video_end_token_id")) if marked else None,
    )
