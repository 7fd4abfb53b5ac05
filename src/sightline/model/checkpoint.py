"""What a checkpoint is, read from its files before any weight is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoProcessor, PretrainedConfig

from sightline.config import DataConfig, ImageConfig, VideoConfig
from sightline.errors import ConfigError, ModelError, first_line
from sightline.families import (
    MappedFamily,
    TrainableFamily,
    mapped_family_of,
    trainable_family_of,
)
from sightline.geometry import (
    FrameSampling,
    Patching,
    PixelBudget,
    PixelRecipes,
    Preprocessing,
)
from sightline.model.recipe import read_recipes, why_no_recipe
from sightline.model.tiny import TINY_FAMILIES
from sightline.positions import PositionRule, position_rule


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """What ``config.json`` alone says of a model: enough to draw it, and to lay a plan on it.

    Attributes:
        source: Folder or hub id.
        family: The family's record, chosen by ``config.model_type``.
        config: The transformers configuration.
    """

    source: str
    family: MappedFamily
    config: PretrainedConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A model folder or hub id, without its weights.

    Attributes:
        source: Folder or hub id.
        family: The family's record, chosen by ``config.model_type``.
        config: The transformers configuration.
        processor: The transformers processor, its pixel budget and frame sampling set to the
            run's, so that what is saved with the model is what it was trained with.
        preprocessing: The same numbers as a record, for the arithmetic.
        recipes: What the processor does to pixels; None where it does more than a recipe tells.
        position_rule: What the position engine needs.
        max_length: Longest sequence the language model was made for, tokens.
    """

    source: str
    family: TrainableFamily
    config: PretrainedConfig
    processor: Any
    preprocessing: Preprocessing
    recipes: PixelRecipes | None
    position_rule: PositionRule
    max_length: int


def open_architecture(source: str) -> Architecture:
    """Read a checkpoint's ``config.json``; nothing else of it has to be there.

    Args:
        source: A folder or a hub id.

    Raises:
        ModelError: Not there, not a family whose towers are known, or not readable.
    """
    family = mapped_family_of(_model_type(source), source=source)
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(
            f"{source}: config.json cannot be read: {first_line(error)}\n"
            "Use the config.json of a released checkpoint."
        ) from error
    return Architecture(source=source, family=family, config=config)


def open_checkpoint(
    source: str, data: DataConfig | None = None, *, processor_source: str | None = None
) -> Checkpoint:
    """Read a checkpoint's configuration and processor.

    Args:
        source: A folder or a hub id.
        data: Pixel budgets and frame sampling of the run; None keeps the checkpoint's own.
        processor_source: Folder of the processor, where an adapter has one beside it; None is the
            checkpoint's own.

    Raises:
        ModelError: Not there, not a known family, or its files disagree with each other.
    """
    family = trainable_family_of(_model_type(source), source=source)
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        processor = AutoProcessor.from_pretrained(
            processor_source or source, trust_remote_code=False
        )
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(
            f"{processor_source or source}: the configuration or processor cannot be loaded: "
            f"{first_line(error)}\n"
            "A checkpoint needs config.json, the tokenizer and the processor's configuration."
        ) from error
    if data is not None:
        _apply_budget(processor, data)
        _refuse_without_recipe(source, processor, data)
    rule = position_rule(config, source=source)
    _refuse_disagreement(source, config, processor, rule)
    return Checkpoint(
        source=source,
        family=family,
        config=config,
        processor=processor,
        preprocessing=_preprocessing(
            processor, family, ImageConfig() if data is None else data.images
        ),
        recipes=read_recipes(processor),
        position_rule=rule,
        max_length=int(config.text_config.max_position_embeddings),
    )


def _model_type(source: str) -> str:
    folder = Path(source)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ModelError(
            f"{source}: the folder has no config.json, so it is not a checkpoint.\n"
            "Name the folder that holds config.json, the weights and the tokenizer."
        )
    if not folder.is_dir() and folder.name in TINY_FAMILIES:
        raise ModelError(
            f"{source}: there is no such folder.\n"
            f"To make a tiny model there: sightline tiny {folder.name} {source}"
        )
    # A hub id is a name, or an owner and a name.
    if not folder.is_dir() and (
        folder.is_absolute() or source.startswith(".") or len(folder.parts) > 2
    ):
        raise ModelError(
            f"{source}: there is no such folder.\n"
            "Check the spelling. A hub id is OWNER/NAME, without a leading dot or slash."
        )
    try:
        raw, _ = PretrainedConfig.get_config_dict(source)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{source}: cannot be read as a folder or a hub id: {first_line(error)}\n"
            "Check the spelling, the network, or name a local folder."
        ) from error
    if "model_type" not in raw:
        raise ModelError(
            f"{source}: config.json has no model_type.\n"
            "Use the config.json of a released checkpoint."
        )
    return raw["model_type"]


def _apply_budget(processor: Any, data: DataConfig) -> None:
    """Write the run's pixel budget and frame sampling into the processor itself."""
    image, video = processor.image_processor, processor.video_processor
    image.size = _budgeted("data.images", image.size, data.images)
    video.size = _budgeted("data.videos", video.size, data.videos)
    video.fps = data.videos.fps
    video.num_frames = data.videos.num_frames
    video.min_frames = data.videos.min_frames
    video.max_frames = data.videos.max_frames
    video.do_sample_frames = True
    # None means "not capped" today and "capped" in later releases: it is written down instead.
    if "cap_pixels_per_frame" in dir(video) and video.cap_pixels_per_frame is None:
        video.cap_pixels_per_frame = False


def _refuse_without_recipe(source: str, processor: Any, data: DataConfig) -> None:
    reason = why_no_recipe(processor)
    if data.preparation == "lean" and reason is not None:
        raise ConfigError(
            f"data.preparation is lean, but the processor of {source} does more than that: "
            f"{reason}.\nSet data.preparation to processor."
        )


def _budgeted(section: str, size: Any, limits: ImageConfig | VideoConfig) -> dict[str, int]:
    own_low, own_high = int(size["shortest_edge"]), int(size["longest_edge"])
    low = limits.min_pixels if limits.min_pixels is not None else own_low
    high = limits.max_pixels if limits.max_pixels is not None else own_high
    if low > high:
        whose = "min_pixels" if limits.min_pixels is None else "max_pixels"
        raise ConfigError(
            f"{section}: min_pixels {low} is over max_pixels {high}; {whose} is the checkpoint's "
            f"own.\nSet both in {section}."
        )
    return {"shortest_edge": low, "longest_edge": high}


def _preprocessing(processor: Any, family: TrainableFamily, images: ImageConfig) -> Preprocessing:
    image, video = processor.image_processor, processor.video_processor
    return Preprocessing(
        image_patching=_patching(image),
        image_budget=_budget(image),
        video_patching=_patching(video),
        video_budget=_budget(video),
        video_budget_scope=family.video_budget,
        sampling=FrameSampling(
            rule=family.frame_rule,
            fps=float(video.fps or 2.0),
            min_frames=int(video.min_frames),
            max_frames=int(video.max_frames),
            temporal_patch_size=int(video.temporal_patch_size),
            num_frames=None if video.fps or not video.num_frames else int(video.num_frames),
        ),
        timestamps_in_text=family.rope.temporal_rule == "frame_per_span",
        max_file_pixels=images.max_file_pixels,
    )


def _patching(part: Any) -> Patching:
    return Patching(
        patch_size=int(part.patch_size),
        temporal_patch_size=int(part.temporal_patch_size),
        spatial_merge_size=int(part.merge_size),
    )


def _budget(part: Any) -> PixelBudget:
    return PixelBudget(
        min_pixels=int(part.size["shortest_edge"]), max_pixels=int(part.size["longest_edge"])
    )


def _refuse_disagreement(source: str, config: Any, processor: Any, rule: PositionRule) -> None:
    image, vision = processor.image_processor, config.vision_config
    pairs = [
        ("image placeholder id", processor.image_token_id, rule.image_token_id),
        ("video placeholder id", processor.video_token_id, rule.video_token_id),
        ("spatial merge size", image.merge_size, vision.spatial_merge_size),
        ("patch size", image.patch_size, vision.patch_size),
        ("temporal patch size", image.temporal_patch_size, vision.temporal_patch_size),
    ]
    for what, of_processor, of_config in pairs:
        if of_processor != of_config:
            raise ModelError(
                f"{source}: the {what} is {of_processor} in the processor and {of_config} in "
                "config.json. Use the processor that belongs to this checkpoint."
            )
