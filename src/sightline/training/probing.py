"""Recording the probe in the training process, before anything is merged or saved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sightline.data import Collator, EncodedSample, Encoder, PlannedVideo, chat_messages
from sightline.data.samples import PlannedSamples
from sightline.evaluation import ProbeSample, greedy, last_answer, seen_pixels
from sightline.model import Checkpoint
from sightline.records import write_bytes
from sightline.training.loss import supervised_tokens

# Values of logits kept for a sample: 16 MiB in float32, at any vocabulary.
_MAX_LOGIT_VALUES = 4 * 1024 * 1024
_EXTRA_TOKENS = 8


def choose_probes(samples: PlannedSamples, wanted: int) -> list[int]:
    """Indices of probe samples, spread evenly over the data."""
    # The same conversation twice, by a weight, is no second probe.
    _, firsts = np.unique(samples.positions(), return_index=True)
    pool = np.sort(firsts)
    return [int(pool[index]) for index in spread(len(pool), wanted)]


def spread(number: int, wanted: int) -> list[int]:
    """Indices spread evenly.

    >>> spread(10, 4)
    [0, 3, 6, 9]
    """
    count = min(wanted, number)
    if count <= 1:
        return list(range(count))
    return [round(i * (number - 1) / (count - 1)) for i in range(count)]


def record_probes(
    model: Any,
    samples: PlannedSamples,
    indices: Sequence[int],
    media_folder: Path,
    *,
    encoder: Encoder,
    train_collator: Collator,
    prompt_collator: Collator,
    checkpoint: Checkpoint,
    max_new_tokens: int | None,
) -> list[ProbeSample]:
    """What the trained model computes for some of its training samples.

    Args:
        model: The trained model, adapters not merged.
        samples: All training samples.
        indices: Which of them are probes.
        media_folder: Where pictures go that stand in rows instead of files, for the verification.
        encoder: Encodes the prompt of a sample.
        train_collator: Collator of training.
        prompt_collator: Collator with padding on the left.
        checkpoint: The opened checkpoint.
        max_new_tokens: Bound on an answer; None for the annotation's length plus a few.
    """
    model.eval()
    return [
        _record(
            model,
            index,
            sample,
            messages=named_media(chat_messages(sample.conversation), sample, media_folder, index),
            encoder=encoder,
            batches=(train_collator, prompt_collator),
            checkpoint=checkpoint,
            max_new_tokens=max_new_tokens or len(last_answer(sample)) + _EXTRA_TOKENS,
        )
        for index in indices
        for sample in [samples[index]]
    ]


def _record(
    model: Any,
    index: int,
    sample: EncodedSample,
    *,
    messages: list[dict[str, Any]],
    encoder: Encoder,
    batches: tuple[Collator, Collator],
    checkpoint: Checkpoint,
    max_new_tokens: int,
) -> ProbeSample:
    batch = _to_device(batches[0]([sample]), model)
    columns = _thinned(supervised_tokens(batch["labels"]).tokens, model)
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    with torch.no_grad():
        logits = model(**inputs, logits_to_keep=columns, use_cache=False).logits[0]
    prompt = _to_device(
        batches[1]([encoder.encode_prompt(sample.conversation, sample.limits)]), model
    )
    del prompt["labels"]
    answer = greedy(
        model,
        prompt,
        tokenizer=checkpoint.processor.tokenizer,
        tokens=checkpoint.family.tokens,
        max_new_tokens=[max_new_tokens],
    )[0]
    return ProbeSample(
        index=index,
        file=str(sample.conversation.origin.file),
        line=sample.conversation.origin.line,
        messages=messages,
        max_new_tokens=max_new_tokens,
        pixels=seen_pixels(
            batch,
            checkpoint.recipes,
            checkpoint.preprocessing.image_patching.temporal_patch_size,
        ),
        answer_ids=answer.ids,
        answer_gaps=answer.gaps,
        input_ids=batch["input_ids"][0].cpu(),
        labels=batch["labels"][0].cpu(),
        position_ids=batch["position_ids"][1:, 0].cpu(),
        columns=columns.cpu(),
        logits=logits.float().cpu(),
    )


def named_media(
    messages: list[dict[str, Any]], sample: EncodedSample, folder: Path, index: int
) -> list[dict[str, Any]]:
    """Messages whose media are files, with the pixel limits that only this sample has.

    Bytes that stand in a row are written to a file. A video that plain transformers would see with
    other frames or times has its own written down.
    """
    limits = {"image": sample.limits.image_max_pixels, "video": sample.limits.video_max_pixels}
    media = [part for message in messages for part in message["content"] if part["type"] != "text"]
    planned = {
        "image": iter(sample.conversation.images()),
        "video": iter(sample.conversation.videos()),
    }
    for number, part in enumerate(media):
        source = next(planned[part["type"]])
        if source.content is not None:
            path = folder / f"{index}-{number}"
            write_bytes(path, source.content)
            # Starts at the run directory, which may be moved.
            part[part["type"]] = str(path.relative_to(folder.parent))
        if (limit := limits[part["type"]]) is not None:
            part["max_pixels"] = limit
    videos = (part for part in media if part["type"] == "video")
    for part, video in zip(videos, sample.videos, strict=True):
        if not video.is_plain:
            part |= _taken_frames(video)
    return messages


def _taken_frames(video: PlannedVideo) -> dict[str, Any]:
    """Which frames were taken, and when they are shown; see `sightline.checks.plain_videos`."""
    taken = video.taken
    return {
        "taken": {"indices": list(taken.indices), "quarter_turns": video.quarter_turns},
        "video_metadata": {
            "total_num_frames": taken.num_ticks,
            "fps": taken.ticks_per_second,
            "frames_indices": list(taken.ticks),
        },
    }


def _thinned(columns: torch.Tensor, model: Any) -> torch.Tensor:
    """Columns spread evenly over the answer where all of them would be too many to keep."""
    most = max(8, _MAX_LOGIT_VALUES // int(model.config.text_config.vocab_size))
    if len(columns) <= most:
        return columns
    picked = torch.linspace(0, len(columns) - 1, most).round().long()
    return columns[picked.to(columns.device)]


def _to_device(batch: dict[str, torch.Tensor], model: Any) -> dict[str, torch.Tensor]:
    return {key: value.to(model.device) for key, value in batch.items()}
