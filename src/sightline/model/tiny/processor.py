"""The real image and video processors with the settings of the real checkpoints."""

from __future__ import annotations

from typing import Any

from transformers import (
    PreTrainedTokenizerBase,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

# shortest_edge and longest_edge are areas, in pixels.
_QWEN2_SIZE = {"shortest_edge": 56 * 56, "longest_edge": 128 * 128 * 28 * 28}
_QWEN3_IMAGE_SIZE = {"shortest_edge": 256 * 256, "longest_edge": 4096 * 4096}
_QWEN3_VIDEO_SIZE = {"shortest_edge": 64 * 64, "longest_edge": 24 * 1024 * 1024}
_QWEN3_PATCHES: dict[str, Any] = {
    "patch_size": 16,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


def qwen2_vl_processor(tokenizer: PreTrainedTokenizerBase, template: str) -> Qwen2VLProcessor:
    """Qwen2-VL's processor: patches of 14 pixels, CLIP's mean and deviation."""
    return Qwen2VLProcessor(*_qwen2_parts(tokenizer), chat_template=template)


def qwen2_5_vl_processor(tokenizer: PreTrainedTokenizerBase, template: str) -> Qwen2_5_VLProcessor:
    """Qwen2.5-VL's processor: as Qwen2-VL's, and it reports the seconds of a video's grids."""
    return Qwen2_5_VLProcessor(*_qwen2_parts(tokenizer), chat_template=template)


def qwen3_vl_processor(tokenizer: PreTrainedTokenizerBase, template: str) -> Qwen3VLProcessor:
    """Qwen3-VL's processor: patches of 16 pixels, and it writes a video's times as text."""
    images = Qwen2VLImageProcessor(size=dict(_QWEN3_IMAGE_SIZE), **_QWEN3_PATCHES)
    videos = Qwen3VLVideoProcessor(size=dict(_QWEN3_VIDEO_SIZE), **_QWEN3_PATCHES)
    return Qwen3VLProcessor(images, tokenizer, videos, chat_template=template)


def _qwen2_parts(tokenizer: PreTrainedTokenizerBase) -> tuple[Any, Any, Any]:
    images = Qwen2VLImageProcessor(size=dict(_QWEN2_SIZE))
    videos = Qwen2VLVideoProcessor(size=dict(_QWEN2_SIZE))
    return images, tokenizer, videos
