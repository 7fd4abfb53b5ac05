"""The way of someone who has never heard of Sightline: transformers and its processor alone.

Nothing here uses Sightline's encoding, media or position code, but for the pictures of ``misread``.
That is the point: what this path computes is compared with what trained.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from transformers.image_utils import load_image

from sightline.checks.plain_videos import read_video
from sightline.data.images import load_image as load_image_as_trained
from sightline.errors import VerifyError


def plain_inputs(
    processor: Any,
    conversations: list[list[dict[str, Any]]],
    *,
    generation_prompt: bool,
    misread: Collection[str] = (),
) -> dict[str, torch.Tensor]:
    """Inputs of conversations through the saved processor, padded on the left.

    Args:
        processor: The exported processor.
        conversations: Chat messages with media by path. A medium that trained with fewer pixels
            than the processor gives it has ``max_pixels``, as in Qwen's own examples; a video of
            which plain transformers would take other frames or times has those of training.
        generation_prompt: Whether the assistant's turn is opened.
        misread: Paths of pictures that transformers' ``load_image`` reads otherwise than training
            did. They are handed over as training saw them.
    """
    if not any(_has_own_limits(messages) for messages in conversations):
        return _prepared(processor, conversations, generation_prompt, misread)
    # One call takes one limit: each conversation by itself, padded afterwards.
    alone = [
        _prepared(processor, [messages], generation_prompt, misread) for messages in conversations
    ]
    return _joined(alone, processor.tokenizer)


def _prepared(
    processor: Any,
    conversations: list[list[dict[str, Any]]],
    generation_prompt: bool,
    misread: Collection[str],
) -> dict[str, torch.Tensor]:
    """Inputs of conversations whose media have the same limits."""
    texts = [
        processor.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=generation_prompt
        )
        for messages in conversations
    ]
    images = [
        load_image_as_trained(Path(path), max_pixels=None) if path in misread else load_image(path)
        for messages in conversations
        for path in media_paths(messages, "image")
    ]
    for messages in conversations:
        media_paths(messages, "video")
    videos = [
        read_video(part, processor.video_processor, misread)
        for messages in conversations
        for part in _parts(messages, "video")
    ]
    media: dict[str, Any] = {}
    if images:
        media["images"] = images
        media["images_kwargs"] = _size(processor.image_processor, conversations, "image")
    if videos:
        media["videos"] = [frames for frames, _ in videos]
        media["videos_kwargs"] = {
            "video_metadata": [metadata for _, metadata in videos],
            "do_sample_frames": False,
            **_size(processor.video_processor, conversations, "video"),
        }
    made = processor(text=texts, padding=True, padding_side="left", return_tensors="pt", **media)
    # Lists (seconds per grid in some releases) become tensors; metadata is not for the model.
    tensors = {}
    for key, value in made.items():
        if isinstance(value, torch.Tensor):
            tensors[key] = value
        elif key == "second_per_grid_ts":
            tensors[key] = torch.tensor([float(seconds) for seconds in value])
    return tensors


def _has_own_limits(messages: list[dict[str, Any]]) -> bool:
    return any("max_pixels" in part for turn in messages for part in turn["content"])


def _size(part: Any, conversations: list[list[dict[str, Any]]], kind: str) -> dict[str, Any]:
    """The size argument for media with a limit of their own; none for the others."""
    [*limits] = {
        part["max_pixels"]
        for messages in conversations
        for turn in messages
        for part in turn["content"]
        if part["type"] == kind and "max_pixels" in part
    }
    if not limits:
        return {}
    [limit] = limits
    return {"size": {"shortest_edge": part.size["shortest_edge"], "longest_edge": limit}}


def _joined(alone: list[dict[str, torch.Tensor]], tokenizer: Any) -> dict[str, torch.Tensor]:
    """Inputs of several conversations as one batch, padded on the left."""
    width = max(inputs["input_ids"].shape[1] for inputs in alone)
    fill = {"input_ids": tokenizer.pad_token_id}
    joined: dict[str, torch.Tensor] = {}
    for key in dict.fromkeys(key for inputs in alone for key in inputs):
        tensors = [inputs[key] for inputs in alone if key in inputs]
        if key in ("input_ids", "attention_mask", "mm_token_type_ids"):
            tensors = [
                torch.nn.functional.pad(row, (width - row.shape[1], 0), value=fill.get(key, 0))
                for row in tensors
            ]
        joined[key] = torch.cat(tensors)
    return joined


def before_last_answer(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The turns that a model is given before it must write the last answer."""
    return messages[:-1]


def annotation(messages: list[dict[str, Any]]) -> str:
    """The words of the last answer."""
    return spoken(messages[-1])


def spoken(turn: dict[str, Any]) -> str:
    """The words of a turn as the tokenizer writes them: in Unicode's composed form."""
    words = "".join(part["text"] for part in turn["content"] if part["type"] == "text")
    return unicodedata.normalize("NFC", words)


def question(messages: list[dict[str, Any]]) -> str:
    """The words of the last question."""
    return spoken(messages[-2])


def media_paths(messages: list[dict[str, Any]], kind: str) -> list[str]:
    """The files of all images or videos of a conversation, in order.

    Raises:
        VerifyError: One is not there.
    """
    paths: list[str] = []
    for part in _parts(messages, kind):
        paths += part[kind] if isinstance(part[kind], list) else [part[kind]]
    for path in paths:
        if not Path(path).is_file():
            raise VerifyError(
                f"{path}: the {kind} of a compared sample is not there.\n"
                "Put it back where it was in training, or train the run again."
            )
    return paths


def picture_paths(messages: list[dict[str, Any]]) -> list[str]:
    """The pictures of a conversation: its images, and the frames of videos that are lists.

    Raises:
        VerifyError: One is not there.
    """
    frames = [
        path
        for part in _parts(messages, "video")
        if isinstance(part["video"], list)
        for path in part["video"]
    ]
    return media_paths(messages, "image") + frames


def _parts(messages: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [part for turn in messages for part in turn["content"] if part["type"] == kind]
