"""Section ``data``: where samples come from, and how their media become patches."""

from __future__ import annotations

import os
from typing import Any, Literal

from pydantic import field_validator, model_validator

from sightline.config.base import ContradictionError, Section, key


def _refuse_reversed(section: Section, what: str, low: int | None, high: int | None) -> None:
    if low is not None and high is not None and low > high:
        low_is_given = f"min_{what}" in section.model_fields_set
        raise ContradictionError(
            f"min_{what}" if low_is_given else f"max_{what}",
            f"min_{what} is {low}, over max_{what} {high}",
            f"Lower min_{what} or raise max_{what}.",
        )


class Columns(Section):
    """Column names of ShareGPT rows, as LLaMA-Factory declares them."""

    messages: str | None = key("conversations", "Column of the turns.")
    images: str | None = key(None, "Column of image paths.")
    videos: str | None = key(None, "Column of video paths.")
    system: str | None = key(None, "Column of a system prompt.")


class Tags(Section):
    """Names inside the turns of ShareGPT rows, as LLaMA-Factory declares them."""

    role_tag: str | None = key("from", "Key of the speaker.")
    content_tag: str | None = key("value", "Key of the text.")
    user_tag: str | None = key("human", "Name of the user.")
    assistant_tag: str | None = key("gpt", "Name of the assistant.")
    system_tag: str | None = key("system", "Name of the system.")


class Source(Section):
    """One data file."""

    path: str = key(
        ..., "A .json or .jsonl file, or a dataset_info.json together with name.", min_length=1
    )
    name: str | None = key(None, "Entry of a LLaMA-Factory dataset_info.json.")
    format: Literal["official", "sharegpt", "openai"] | None = key(
        None, "Shape of the rows; null or auto tells them apart by themselves."
    )
    media_root: str | None = key(
        None, "Folder that media paths are relative to; null is the folder of the data file."
    )
    strip_prefix: str | None = key(
        None, "Leading folders that media paths carry in the file but not on this disk."
    )
    columns: Columns | None = key(None, "Column names of ShareGPT rows; null for the usual ones.")
    tags: Tags | None = key(None, "Names inside ShareGPT turns; null for the usual ones.")

    @field_validator("path", "media_root", mode="before")
    @classmethod
    def _as_text(cls, given: Any) -> Any:
        return os.fspath(given) if isinstance(given, os.PathLike) else given

    @field_validator("format", mode="before")
    @classmethod
    def _auto_is_null(cls, given: Any) -> Any:
        return None if given == "auto" else given


class ImageConfig(Section):
    """Pixel limits of an image."""

    min_pixels: int | None = key(
        None,
        "Smaller images are enlarged to this; null is the checkpoint's own.",
        unit="pixels an image",
        gt=0,
    )
    max_pixels: int | None = key(
        None,
        "Larger images are reduced to this; null is the checkpoint's own. Saved with the model.",
        unit="pixels an image",
        gt=0,
    )

    @model_validator(mode="after")
    def _ordered(self) -> ImageConfig:
        _refuse_reversed(self, "pixels", self.min_pixels, self.max_pixels)
        return self


class VideoConfig(Section):
    """Frames and pixel limits of a video."""

    fps: float = key(2.0, "Frames taken from a video. Saved with the model.", unit="1/s", gt=0)
    min_frames: int = key(4, "Fewest frames taken.", unit="frames", ge=2)
    max_frames: int = key(768, "Most frames taken.", unit="frames", ge=2)
    min_pixels: int | None = key(
        None,
        "Smaller videos are enlarged to this; null is the checkpoint's own. For Qwen3-VL the "
        "limits hold for all frames together.",
        unit="pixels a frame",
        gt=0,
    )
    max_pixels: int | None = key(
        None,
        "Larger videos are reduced to this; null is the checkpoint's own. For Qwen3-VL the "
        "limits hold for all frames together.",
        unit="pixels a frame",
        gt=0,
    )

    @model_validator(mode="after")
    def _ordered(self) -> VideoConfig:
        _refuse_reversed(self, "frames", self.min_frames, self.max_frames)
        _refuse_reversed(self, "pixels", self.min_pixels, self.max_pixels)
        return self


class DataConfig(Section):
    """What a run learns from."""

    train: list[Source] = key(..., "Training data: a file, or a list of files or mappings.")
    eval: list[Source] = key([], "Held-out data, in the same forms.")
    max_length: int | None = key(
        None,
        "Longest sample. A longer one is an error: nothing is cut. null is the model's limit.",
        unit="tokens",
        gt=0,
    )
    images: ImageConfig = key(ImageConfig(), "Pixel limits of images.")
    videos: VideoConfig = key(VideoConfig(), "Frames and pixel limits of videos.")

    @field_validator("train", "eval", mode="before")
    @classmethod
    def _as_sources(cls, given: Any) -> Any:
        if given is None:
            return given
        items = given if isinstance(given, list) else [given]
        return [{"path": item} if isinstance(item, str | os.PathLike) else item for item in items]

    @field_validator("train")
    @classmethod
    def _not_empty(cls, given: list[Source]) -> list[Source]:
        if not given:
            raise ValueError("name at least one data file")
        return given
