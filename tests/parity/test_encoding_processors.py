"""Token ids, grids, seconds and pixels equal those of the family's own processor.

The other side is transformers alone: its own loaders for pictures and videos, its own frame
sampling, the chat template, and one processor call.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from sightline.checks.plain import plain_inputs
from sightline.data import (
    Conversation,
    Encoder,
    ImagePart,
    Message,
    Origin,
    TextPart,
    VideoPart,
    load_pixels,
)
from sightline.data import chat_messages as to_chat
from sightline.model import Checkpoint, open_checkpoint
from sightline.preparation import make_encoder

FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


@pytest.fixture(scope="module", params=FAMILY_KEYS)
def checkpoint(request: pytest.FixtureRequest, tiny_folder: Callable[[str], Path]) -> Checkpoint:
    from sightline.config import DataConfig

    data = DataConfig.model_validate({"train": "unused.jsonl", "videos": {"fps": 4.0}})
    return open_checkpoint(str(tiny_folder(request.param)), data)


@pytest.fixture(scope="module")
def encoder(checkpoint: Checkpoint) -> Encoder:
    return make_encoder(checkpoint)


def _text(words: str) -> TextPart:
    return TextPart(text=words)


def _turn(role: str, *parts: object) -> Message:
    return Message(role=role, parts=parts, field="messages[0]")  # type: ignore[arg-type]


def _conversation(*turns: Message) -> Conversation:
    return Conversation(messages=turns, origin=Origin(file=Path("x.jsonl"), line=1, index=0))


def _cases(folder: Path) -> dict[str, Conversation]:
    pictures = sorted((folder / "images").glob("*.png"))
    videos = sorted((folder / "videos").glob("*.mp4"))
    image = [ImagePart(path=path, field="image") for path in pictures]
    video = [VideoPart(path=path, field="video") for path in videos]
    ask, tell = _text("What is there?"), _turn("assistant", _text("Two shapes, 红色 and blue."))
    return {
        "text": _conversation(_turn("user", ask), tell),
        "system": _conversation(_turn("system", _text("Be brief.")), _turn("user", ask), tell),
        "image": _conversation(_turn("user", image[0], _text("\nBoxes?")), tell),
        "image after text": _conversation(_turn("user", ask, image[0]), tell),
        "several images": _conversation(
            _turn("user", image[0], _text(" and "), image[1], image[2], ask), tell
        ),
        "video": _conversation(_turn("user", video[0], _text("\nWhich way?")), tell),
        "image and videos": _conversation(
            _turn("user", video[0], image[1], _text("then"), video[1]), tell
        ),
        "several turns": _conversation(
            _turn("user", image[0], ask), tell, _turn("user", ask, video[1]), tell
        ),
    }


CASES = (
    "text",
    "system",
    "image",
    "image after text",
    "several images",
    "video",
    "image and videos",
    "several turns",
)


@pytest.mark.parametrize("case", CASES)
def test_encoding_equals_the_processor(
    case: str, checkpoint: Checkpoint, encoder: Encoder, shapes_folder: Path
) -> None:
    conversation = _cases(shapes_folder)[case]
    sample = encoder.encode(conversation)
    theirs = plain_inputs(checkpoint.processor, [to_chat(conversation)], generation_prompt=False)
    assert sample.input_ids.tolist() == theirs["input_ids"][0].tolist()
    pixels = load_pixels(sample, checkpoint.processor)
    for key in ("pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw"):
        assert (key in pixels) == (key in theirs), key
        if key in theirs:
            torch.testing.assert_close(pixels[key], theirs[key], rtol=0, atol=0)
    if "second_per_grid_ts" in theirs and sample.videos:
        torch.testing.assert_close(pixels["second_per_grid_ts"], theirs["second_per_grid_ts"])


@pytest.mark.parametrize("case", CASES)
def test_a_prompt_equals_the_processor(
    case: str, checkpoint: Checkpoint, encoder: Encoder, shapes_folder: Path
) -> None:
    conversation = _cases(shapes_folder)[case]
    prompt = encoder.encode_prompt(conversation)
    theirs = plain_inputs(
        checkpoint.processor, [to_chat(conversation)[:-1]], generation_prompt=True
    )
    assert prompt.input_ids.tolist() == theirs["input_ids"][0].tolist()
    whole = encoder.encode(conversation)
    np.testing.assert_array_equal(whole.input_ids[: prompt.num_tokens], prompt.input_ids)


@pytest.mark.parametrize("case", CASES)
def test_labels_are_the_answers_and_their_closing_token(
    case: str, checkpoint: Checkpoint, encoder: Encoder, shapes_folder: Path
) -> None:
    sample = encoder.encode(_cases(shapes_folder)[case])
    spoken = checkpoint.processor.tokenizer.decode(sample.labels[sample.labels != -100])
    answers = 2 if case == "several turns" else 1
    assert spoken == "Two shapes, 红色 and blue.<|im_end|>" * answers


def test_a_label_on_a_placeholder_is_seen(encoder: Encoder, shapes_folder: Path) -> None:
    """The comparison above can fail: with a planted label the spoken text is another."""
    sample = encoder.encode(_cases(shapes_folder)["image"])
    where = int(np.flatnonzero(sample.labels == -100)[3])
    planted = sample.labels.copy()
    planted[where] = sample.input_ids[where]
    assert (planted != -100).sum() == sample.num_supervised_tokens + 1
