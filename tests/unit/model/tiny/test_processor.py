"""Processors: the settings of the published checkpoints, and what becomes of a picture or video."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoProcessor
from transformers.video_utils import VideoMetadata

FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
HALF = [0.5, 0.5, 0.5]


@pytest.fixture(params=FAMILY_KEYS)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def processor(family: str, tiny_folder: Callable[[str], Path]) -> Any:
    return AutoProcessor.from_pretrained(tiny_folder(family))


def _limits(part: Any) -> tuple[int, int]:
    return part.size["shortest_edge"], part.size["longest_edge"]


def _clip() -> tuple[np.ndarray, VideoMetadata]:
    """Eight frames taken from four seconds: two a second, one second a temporal grid."""
    frames = np.random.default_rng(0).integers(0, 255, (8, 64, 96, 3), dtype=np.uint8)
    metadata = VideoMetadata(
        total_num_frames=80, fps=20.0, frames_indices=[0, 10, 20, 30, 40, 50, 60, 70]
    )
    return frames, metadata


def _video_inputs(processor: Any) -> Any:
    frames, metadata = _clip()
    return processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "video", "video": frames}]}],
        tokenize=True,
        return_dict=True,
        processor_kwargs={
            "video_metadata": [metadata],
            "do_sample_frames": False,
            "return_tensors": "pt",
        },
    )


def test_the_real_classes(processor: Any, family: str) -> None:
    name = {"qwen2_vl": "Qwen2VL", "qwen2_5_vl": "Qwen2_5_VL", "qwen3_vl": "Qwen3VL"}[family]
    videos = {"qwen3_vl": "Qwen3VLVideoProcessor"}.get(family, "Qwen2VLVideoProcessor")
    assert type(processor).__name__ == f"{name}Processor"
    assert type(processor.image_processor).__name__ == "Qwen2VLImageProcessor"
    assert type(processor.video_processor).__name__ == videos
    assert processor.chat_template == processor.tokenizer.chat_template


def test_pixel_limits(processor: Any, family: str) -> None:
    images, videos = _limits(processor.image_processor), _limits(processor.video_processor)
    assert (images, videos) == {
        "qwen2_vl": ((3136, 12845056), (3136, 12845056)),
        "qwen2_5_vl": ((3136, 12845056), (3136, 12845056)),
        "qwen3_vl": ((65536, 16777216), (4096, 25165824)),
    }[family]


def test_patches_and_normalisation(processor: Any, family: str) -> None:
    mean, std, size = {"qwen3_vl": (HALF, HALF, 16)}.get(family, (CLIP_MEAN, CLIP_STD, 14))
    for part in (processor.image_processor, processor.video_processor):
        assert (part.patch_size, part.temporal_patch_size, part.merge_size) == (size, 2, 2)
        assert list(part.image_mean) == mean
        assert list(part.image_std) == std


def test_two_processors_do_not_share_their_settings() -> None:
    from sightline.model.tiny.processor import qwen2_vl_processor, qwen3_vl_processor
    from sightline.model.tiny.tokenizer import make_tokenizer

    tokenizer = make_tokenizer((), "", [])
    for make in (qwen2_vl_processor, qwen3_vl_processor):
        changed = make(tokenizer, "")
        changed.video_processor.size["longest_edge"] = 7
        assert make(tokenizer, "").video_processor.size["longest_edge"] != 7
        assert make(tokenizer, "").image_processor.size["longest_edge"] != 7


def test_a_video_is_not_sampled_again(processor: Any) -> None:
    made = _video_inputs(processor)
    assert made["video_grid_thw"][0, 0] == 4
    patches = int(made["video_grid_thw"].prod())
    pads = int((made["input_ids"] == processor.video_token_id).sum())
    assert (made["pixel_values_videos"].shape[0], pads) == (patches, patches // 4)


def test_seconds_of_a_grid(tiny_folder: Callable[[str], Path]) -> None:
    processor = AutoProcessor.from_pretrained(tiny_folder("qwen2_5_vl"))
    assert [float(seconds) for seconds in _video_inputs(processor)["second_per_grid_ts"]] == [1.0]


def test_qwen3_writes_the_times_inside_the_outer_vision_span(
    tiny_folder: Callable[[str], Path],
) -> None:
    processor = AutoProcessor.from_pretrained(tiny_folder("qwen3_vl"))
    made = _video_inputs(processor)
    text = processor.tokenizer.decode(made["input_ids"][0])
    frame = "<|vision_start|>" + "<|video_pad|>" * 6 + "<|vision_end|>"
    times = "".join(f"<{second} seconds>{frame}" for second in ("0.2", "1.2", "2.2", "3.2"))
    assert made["video_grid_thw"].tolist() == [[4, 4, 6]]
    assert text == f"<|im_start|>user\n<|vision_start|>{times}<|vision_end|><|im_end|>\n"
