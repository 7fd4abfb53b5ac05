"""The real image and video processors with the settings of the real checkpoints."""

from __future__ import annotations

from typing import Any

from transformers import (
    PreTrainedTokenizerBase,
    ProcessorMixin,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

_QWEN2_SIZE = {"shortest_edge": 56 * 56, "longest_edge": 128 * 128 * 28 * 28}
_QWEN3_IMAGE_SIZE = {"shortest_edge": 256 * 256, "longest_edge": 4096 * 4096}
_QWEN3_VIDEO_SIZE = {"shortest_edge": 64 * 64, "longest_edge": 24 * 1024 * 1024}


def make_processor(family: str, tokenizer: PreTrainedTokenizerBase, template: str) -> Any:
    """The processor of a family, with Qwen2's or Qwen3's pixel limits and normalisation."""
    if family == "qwen3_vl":
        half: dict[str, Any] = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "patch_size": 16}
        images = Qwen2VLImageProcessor(size=dict(_QWEN3_IMAGE_SIZE), **half)
        videos = Qwen3VLVideoProcessor(size=dict(_QWEN3_VIDEO_SIZE), **half)
    else:
        images = Qwen2VLImageProcessor(size=dict(_QWEN2_SIZE))
        videos = Qwen2VLVideoProcessor(size=dict(_QWEN2_SIZE))
    classes: dict[str, type[ProcessorMixin]] = {
        "qwen2_vl": Qwen2VLProcessor,
        "qwen2_5_vl": Qwen2_5_VLProcessor,
        "qwen3_vl": Qwen3VLProcessor,
    }
    return classes[family](images, tokenizer, videos, chat_template=template)
