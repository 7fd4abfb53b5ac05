"""D24, D26 and double resizing: what the families' processors do, and what becomes of it here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.config import DataConfig
from sightline.data import (
    Conversation,
    Encoder,
    ImagePart,
    LeanPixels,
    Message,
    Origin,
    TextPart,
    VideoPart,
    load_pixels,
)
from sightline.evaluation import seen_pixels
from sightline.model import Checkpoint, open_checkpoint
from sightline.preparation import make_encoder

FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
MENDED = "the processor does not do this any more: the trap is mended upstream"
MAX_PIXELS = 64 * 64


@pytest.fixture(params=FAMILY_KEYS)
def checkpoint(request: pytest.FixtureRequest, tiny_folder: Callable[[str], Path]) -> Checkpoint:
    """A checkpoint under a budget that every picture here is over."""
    images = {"min_pixels": 1024, "max_pixels": MAX_PIXELS}
    data = DataConfig.model_validate({"train": "unused.jsonl", "images": images})
    return open_checkpoint(str(tiny_folder(request.param)), data)


@pytest.fixture
def encoder(checkpoint: Checkpoint) -> Encoder:
    return make_encoder(checkpoint)


def _asked(part: ImagePart | VideoPart) -> Conversation:
    turn = Message(role="user", parts=(part, TextPart(text="When?")), field="messages[0]")
    return Conversation(messages=(turn,), origin=Origin(file=Path("x.jsonl"), line=1, index=0))


def _noise(path: Path, height: int, width: int, seed: int = 0) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_d24_frames_without_their_times(
    checkpoint: Checkpoint, encoder: Encoder, tmp_path: Path
) -> None:
    """Eight pictures taken at two a second: four grids, a second each."""
    frames = tuple(_noise(tmp_path / f"{number}.png", 56, 56, number) for number in range(8))
    arrays = torch.from_numpy(np.stack([np.asarray(Image.open(path)) for path in frames]))
    # The checkpoint's own; with the settings of a run, that of Qwen2-VL and Qwen2.5-VL raises.
    processor = open_checkpoint(checkpoint.source).processor
    text = f"{checkpoint.family.tokens.vision_start}{checkpoint.family.tokens.video_pad}"
    theirs = processor(text=[text], videos=[arrays], fps=2.0, return_tensors="pt")
    part = VideoPart(path=frames[0], field="video", frames=frames, frame_fps=2.0)
    sample = encoder.encode_prompt(_asked(part))
    [video] = sample.videos
    assert video.grid_thw[0] == 4
    assert video.seconds_per_grid == 1.0
    ours = load_pixels(sample, checkpoint.processor)
    assert ours["video_grid_thw"].tolist()[0][0] == 4
    match checkpoint.position_rule.rope.temporal_rule:
        case "seconds":
            assert float(theirs["second_per_grid_ts"][0]) == pytest.approx(2 / 24), MENDED
            assert ours["second_per_grid_ts"].tolist() == [1.0]
        case "frame_per_span":
            said = processor.tokenizer.decode(theirs["input_ids"][0])
            assert "<0.0 seconds>" in said, MENDED
            assert theirs["video_grid_thw"][0, 0] < 4, MENDED
            here = processor.tokenizer.decode(sample.input_ids.tolist())
            shown = [f"<{second + 0.25:.1f} seconds>" for second in range(4)]
            assert all(time in here for time in shown)


def test_d26_the_count_of_the_processor_ignores_the_size(
    checkpoint: Checkpoint, encoder: Encoder, tmp_path: Path
) -> None:
    path = _noise(tmp_path / "a.png", 224, 336)
    processor: Any = checkpoint.processor
    half = {"shortest_edge": 1024, "longest_edge": MAX_PIXELS // 2}
    counts = [
        processor._get_num_multimodal_tokens(image_sizes=[(224, 336)], **given)["num_image_tokens"]
        for given in ({}, {"size": half})
    ]
    assert counts[0] == counts[1], MENDED
    made = processor.image_processor(Image.open(path), size=half, return_tensors="pt")
    merge = processor.image_processor.merge_size**2
    assert int(made["image_grid_thw"].prod()) // merge < counts[1][0], MENDED
    # Ours is counted under the budget of the run and of the sample, and is what comes out.
    sample = encoder.encode_prompt(_asked(ImagePart(path=path, field="image")))
    pads = int((sample.input_ids == checkpoint.position_rule.image_token_id).sum())
    pixels = load_pixels(sample, processor)
    assert pads == int(pixels["image_grid_thw"].prod()) // merge
    assert sample.images[0].resized[0] * sample.images[0].resized[1] <= MAX_PIXELS


def test_a_picture_that_is_resized_twice_is_another_one(
    checkpoint: Checkpoint, encoder: Encoder, tmp_path: Path
) -> None:
    """As by a tool that resizes first and hands the result to the processor. Here it is once."""
    path = _noise(tmp_path / "whole.png", 224, 336)
    with Image.open(path) as whole:
        whole.resize((100, 66), Image.Resampling.BICUBIC).save(tmp_path / "before.png")
    assert checkpoint.recipes is not None
    lean = LeanPixels(checkpoint.preprocessing, checkpoint.recipes)
    once, twice = (
        lean(encoder.encode_prompt(_asked(ImagePart(path=one, field="image"))))
        for one in (path, tmp_path / "before.png")
    )
    # The grid does not tell: whoever compares sizes or token counts sees nothing.
    assert once["image_grid_thw"].tolist() == twice["image_grid_thw"].tolist()
    apart = (once["pixel_values"].int() - twice["pixel_values"].int()).abs()
    assert int(apart.max()) > 1
    # One resize of the file: the picture that the processor alone makes of it.
    by_processor = checkpoint.processor.image_processor(Image.open(path), return_tensors="pt")
    size = checkpoint.preprocessing.image_patching.temporal_patch_size
    digests = [
        seen_pixels(batch, checkpoint.recipes, size).digest for batch in (once, by_processor, twice)
    ]
    assert digests[0] == digests[1] != digests[2]
