"""Section ``data``: where samples come from, and how their media become patches."""

from __future__ import annotations

import os
import re
from typing import Any, Literal

from pydantic import field_validator, model_validator

from sightline.config.base import ContradictionError, Section, key, refuse_twice
from sightline.config.sources import Source

Policy = Literal["shrink", "split", "trim", "drop"]

# Where Pillow itself raises: half a GiB of RGB.
_PERCENT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")
MAX_FILE_PIXELS = 178_956_970


def _refuse_reversed(section: Section, what: str, low: int | None, high: int | None) -> None:
    if low is not None and high is not None and low > high:
        low_is_given = f"min_{what}" in section.model_fields_set
        raise ContradictionError(
            f"min_{what}" if low_is_given else f"max_{what}",
            f"min_{what} is {low}, over max_{what} {high}",
            f"Lower min_{what} or raise max_{what}.",
        )


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

    max_file_pixels: int = key(
        MAX_FILE_PIXELS,
        "An image file whose header states more is a bad sample; nothing of it is decoded.",
        unit="pixels an image",
        gt=0,
    )

    @model_validator(mode="after")
    def _ordered(self) -> ImageConfig:
        _refuse_reversed(self, "pixels", self.min_pixels, self.max_pixels)
        return self


class VideoConfig(Section):
    """Frames and pixel limits of a video."""

    fps: float | None = key(
        2.0,
        "Frames taken from a video; null where num_frames is set. Saved with the model.",
        unit="1/s",
        gt=0,
    )
    num_frames: int | None = key(
        None,
        "Frames taken from every video, evenly, whatever its length; instead of fps. Saved with "
        "the model.",
        unit="frames",
        ge=2,
    )
    min_frames: int = key(4, "Fewest frames taken.", unit="frames", ge=2)
    max_frames: int = key(
        768,
        "Most frames taken. A list of frames that is longer is a bad sample.",
        unit="frames",
        ge=2,
    )
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

    @model_validator(mode="before")
    @classmethod
    def _one_way_to_sample(cls, given: Any) -> Any:
        # The default rate gives way to a number of frames; one that is written does not.
        if isinstance(given, dict) and given.get("num_frames") is not None and "fps" not in given:
            return {**given, "fps": None}
        return given

    @model_validator(mode="after")
    def _ordered(self) -> VideoConfig:
        _refuse_two_ways(self)
        _refuse_reversed(self, "frames", self.min_frames, self.max_frames)
        _refuse_reversed(self, "pixels", self.min_pixels, self.max_pixels)
        return self


def _refuse_two_ways(videos: VideoConfig) -> None:
    """Frames are taken by a rate or by a number, which the bounds on their number hold for too."""
    fps, wanted = videos.fps, videos.num_frames
    if wanted is None and fps is None:
        raise ContradictionError(
            "fps", "neither fps nor num_frames says which frames are taken", "Set one of them."
        )
    if wanted is None:
        return
    if fps is not None:
        raise ContradictionError(
            "num_frames",
            f"num_frames is {wanted} and fps is {fps:g}; either decides how many frames are taken",
            "Remove one of them.",
        )
    low, high = videos.min_frames, videos.max_frames
    if not low <= wanted <= high:
        raise ContradictionError(
            "num_frames",
            f"num_frames is {wanted}, outside min_frames {low} to max_frames {high}",
            "Change one of them.",
        )


class DataConfig(Section):
    """What a run learns from."""

    train: list[Source] = key(..., "Training data: a file, or a list of files or mappings.")
    eval: list[Source] = key(
        [], "Held-out data, in the same forms; or a share of the training data: 5%."
    )
    eval_share: float | None = key(
        None,
        "Share of the training samples that is held out, pictures and all; what eval: 5% sets.",
        gt=0,
        lt=1,
    )
    max_length: int | None = key(
        None,
        "Longest sample. A longer one is brought under it by fit. null is the model's limit.",
        unit="tokens",
        gt=0,
    )
    fit: list[Policy] = key(
        ["shrink", "split", "trim", "drop"],
        "What is done with a sample over max_length, tried in this order. shrink: fewer pixels for "
        "its media. split: one conversation for each picture's turns. trim: the oldest turns go. "
        "drop: it is left out. What none of them brings under it is a bad sample.",
    )
    vision_share: float = key(
        0.5,
        "Share of their tokens, or of max_length where they take more, that images and videos "
        "keep: before they are shrunk below it, the text gives way.",
        gt=0,
        lt=1,
    )
    on_bad: Literal["quarantine", "stop"] = key(
        "quarantine",
        "A sample that cannot be used: goes to quarantine.jsonl with its reason, or ends the run.",
    )
    media_check: Literal["header", "decode"] = key(
        "header",
        "How media are looked at when the data are read. header: size and form, without a decoded "
        "pixel. decode: everything that training would decode, once, so that damage inside a file "
        "makes a bad sample too, and does not end the run; as slow as decoding is.",
    )
    index_folder: str | None = key(
        None,
        "Where the index of the data is kept between runs; null is index beside the run directory.",
    )
    max_download_mib: int = key(
        64, "Largest media file that is fetched from url_hosts of a source.", unit="MiB", gt=0
    )
    processes: int | None = key(
        None, "Processes that read the data once; null is one a core.", unit="processes", gt=0
    )
    preparation: Literal["lean", "processor"] = key(
        "lean",
        "Who prepares pixels. lean: Sightline, as bytes that the model normalises itself; compared "
        "with the checkpoint's processor before the first step. processor: the checkpoint's own, "
        "slower and eight times the bytes.",
    )
    patch_cache: str | None = key(
        None,
        "Folder in which prepared pixels are kept for later epochs and runs, about 3 bytes a pixel "
        "that the model sees; null keeps none. Only lean preparation has it.",
        min_length=1,
    )
    images: ImageConfig = key(ImageConfig(), "Pixel limits of images.")
    videos: VideoConfig = key(VideoConfig(), "Frames and pixel limits of videos.")

    @model_validator(mode="before")
    @classmethod
    def _share_of_training(cls, given: Any) -> Any:
        share = given.get("eval") if isinstance(given, dict) else None
        found = _PERCENT.fullmatch(share) if isinstance(share, str) else None
        if found is None:
            return given
        return {**given, "eval": [], "eval_share": float(found[1]) / 100}

    @property
    def holds_out(self) -> bool:
        """Whether there is held-out data."""
        return bool(self.eval) or self.eval_share is not None

    @model_validator(mode="after")
    def _one_way_to_hold_out(self) -> DataConfig:
        if self.eval and self.eval_share is not None:
            raise ContradictionError(
                "eval_share",
                f"eval_share is {self.eval_share:g}, and eval names {self.eval[0].title}",
                "Remove one of them.",
            )
        return self

    @field_validator("train", "eval", mode="before")
    @classmethod
    def _as_sources(cls, given: Any) -> Any:
        if given is None:
            return given
        items = given if isinstance(given, list) else [given]
        return [{"path": item} if isinstance(item, str | os.PathLike) else item for item in items]

    @model_validator(mode="after")
    def _cache_is_lean(self) -> DataConfig:
        if self.patch_cache is not None and self.preparation != "lean":
            raise ContradictionError(
                "patch_cache",
                f"patch_cache is {self.patch_cache}, and preparation is {self.preparation}",
                "Set preparation to lean, or remove patch_cache.",
            )
        return self

    @field_validator("fit")
    @classmethod
    def _each_policy_once(cls, given: list[Policy]) -> list[Policy]:
        refuse_twice(given, "policy")
        if "drop" in given[:-1]:
            raise ValueError("drop always succeeds, so nothing after it is tried; write it last")
        return given

    @field_validator("train")
    @classmethod
    def _not_empty(cls, given: list[Source]) -> list[Source]:
        if not given:
            raise ValueError("name at least one data file")
        return given
