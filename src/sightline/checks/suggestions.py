"""What to change before training, and what to know: the advice of ``sightline check``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from sightline.config import RunConfig
from sightline.data.statistics import Duplicates, image_tokens_at, usual_image_pixels
from sightline.model import Checkpoint
from sightline.preparation import PlannedData


@dataclass(frozen=True, kw_only=True, slots=True)
class Suggestion:
    """Something to change.

    Attributes:
        what: What to do, a sentence.
        saves: What it saves, in words.
        samples: Samples that it brings back.
        tokens: Tokens that an epoch has fewer.
    """

    what: str
    saves: str
    samples: int = 0
    tokens: int = 0


def suggestions(
    config: RunConfig,
    checkpoint: Checkpoint,
    train: PlannedData,
    record: dict[str, Any],
    twice: Duplicates,
    lengths: np.ndarray,
) -> Iterator[Suggestion]:
    """What to change, in no order.

    Args:
        config: The run's configuration.
        checkpoint: The opened checkpoint.
        train: The training data.
        record: What the check found so far.
        twice: Samples that repeat another one.
        lengths: Tokens of every usable sample, before anything is fitted.
    """
    for kind in record["faults"]:
        if kind["code"] != "fit.dropped" and kind["examples"]:
            first = kind["examples"][0]
            yield Suggestion(
                what=f"{kind['title']}: {first['fix'] or first['what']}",
                saves=f"{kind['samples']:,} samples",
                samples=kind["samples"],
            )
    over = int((lengths > record["max_length"]).sum())
    lost = record["fates"]["dropped"]
    if lost or record["answers_lost"]:
        whole = next(row for row in record["keeps"] if row["percent"] == 100)
        best = whole if whole["fits_model"] else next(iter(record["keeps"]))
        if best["max_length"] > record["max_length"] and best["fits_model"]:
            yield Suggestion(
                what=f"data.max_length: {best['max_length']} keeps {best['percent']} % whole.",
                saves=f"{over:,} samples whole, {record['answers_lost']:,} answers",
                samples=max(lost, 1),
            )
    yield from _fewer_pixels(config, checkpoint, train, record)
    yield from _same_size_for_all(train, record)
    if twice.num_extra:
        yield Suggestion(
            what=f"{twice.num_extra:,} samples repeat another one: {twice.examples[0][1]} is "
            f"{twice.examples[0][0]}. Take them out, or set weight if it is meant.",
            saves=f"{twice.num_tokens:,} tokens",
            tokens=twice.num_tokens,
        )
    machine = record["machine"]
    has_media = record["tokens"]["image"] + record["tokens"]["video"] > 0
    if has_media and machine["num_workers"] == 0 and machine["cores"] > 1:
        workers = min(machine["cores"] - 1, 8)
        yield Suggestion(
            what=f"training.num_workers: {workers} decodes pictures beside the training.",
            saves="waiting for pictures",
        )
    if config.training.precision == "bf16" and not machine["gpus"]:
        yield Suggestion(
            what="training.precision: fp32. There is no GPU here, and bf16 on a CPU is slow.",
            saves="time",
        )


def _fewer_pixels(
    config: RunConfig, checkpoint: Checkpoint, train: PlannedData, record: dict[str, Any]
) -> Iterator[Suggestion]:
    tokens = record["tokens"]
    everything = tokens["text"] + tokens["image"] + tokens["video"]
    if tokens["image"] < 0.5 * everything:
        return
    budget = checkpoint.preprocessing.image_budget
    # Most pictures have fewer pixels than the checkpoint allows: half of that would change nothing.
    usual = min(budget.max_pixels, usual_image_pixels(train.files))
    half = max(usual // 2, budget.min_pixels)
    now, later = image_tokens_at(train.files, checkpoint.preprocessing, half)
    if now - later > 0.1 * everything:
        yield Suggestion(
            what=f"data.images.max_pixels: {half} instead of {budget.max_pixels}, if pictures may "
            "lose detail.",
            saves=f"{now - later:,} tokens ({(now - later) / everything:.0%})",
            tokens=now - later,
        )


def _same_size_for_all(train: PlannedData, record: dict[str, Any]) -> Iterator[Suggestion]:
    """What trains on fewer pixels than a served picture has may not be known at full size."""
    num_shrunk = record["policies"].get("shrink", 0)
    limits = train.samples.column("image_max_pixels").astype(np.float64)
    if num_shrunk and not np.isnan(limits).all():
        yield Suggestion(
            what=f"data.images.max_pixels: {int(np.nanmin(limits))} shrinks all pictures, and is "
            "saved with the model: it is then served pictures of the size that it trained on.",
            saves=f"{num_shrunk:,} samples at a size of their own",
        )


def warnings(config: RunConfig, record: dict[str, Any]) -> Iterator[str]:
    """What is worth a look before training, one sentence each."""
    fates = record["fates"]
    if fates["quarantined"]:
        yield f"samples that cannot be used: {fates['quarantined']:,} of {record['samples']:,}."
    if fates["dropped"]:
        yield f"samples dropped because they do not fit max_length: {fates['dropped']:,}."
    if record["answers_lost"]:
        yield f"answers lost to max_length: {record['answers_lost']:,}."
    shrunk = record["shrunk_to"]
    if shrunk and shrunk["below_a_quarter"]:
        yield (
            "samples that keep less than a quarter of their pixels: "
            f"{shrunk['below_a_quarter']:,}, the smallest {shrunk['smallest']:.0%}."
        )
    if record["duplicates"]["extra"]:
        yield f"samples that repeat another one: {record['duplicates']['extra']:,}."
    shared = record["eval"]["also_in_train"] if record["eval"] else 0
    if shared:
        yield f"samples of data.eval that stand in data.train too: {shared:,}."
    for source, boxes in zip(record["sources"], record["boxes"], strict=True):
        if boxes and boxes["warning"]:
            yield f"{source['source']}: {boxes['warning']}"
        if len(source["formats"]) > 1:
            shapes = ", ".join(sorted(source["formats"]))
            yield f"{source['source']} mixes shapes: {shapes}."
    if config.training.precision == "bf16" and not record["machine"]["gpus"]:
        yield "training.precision is bf16, and this machine has no GPU."
