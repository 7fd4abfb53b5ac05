"""Samples of a run as the model will see them: what fits, what is drawn, what is said of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from sightline.config import RunConfig
from sightline.data import Conversation, EncodedSample
from sightline.data.items import Item
from sightline.data.ledger import joined
from sightline.data.plan import FitPlan, SampleFate, fates_of
from sightline.errors import ConfigError
from sightline.families import BoxSpace
from sightline.geometry import Preprocessing, resize_image
from sightline.model import Checkpoint
from sightline.positions import build_position_ids
from sightline.preparation.prepare import PlannedData, PreparedData
from sightline.preparation.preview.boxes import compare_boxes
from sightline.preparation.preview.media import (
    evenly,
    full_video_size,
    recipes_of,
    show_picture,
    show_video,
)
from sightline.preparation.preview.turns import TurnReader
from sightline.preparation.spans import named_spans
from sightline.records.preview import (
    LeftOut,
    Preview,
    ShownFit,
    ShownPicture,
    ShownSample,
    ShownVideo,
)

MAX_SAMPLES = 64
# Pictures and videos of one sample: on a page of a few samples, and on one of many.
_MAX_PICTURES, _MAX_PICTURES_OF_MANY = 12, 4
_MAX_VIDEOS, _MAX_VIDEOS_OF_MANY = 4, 1
_FEW_SAMPLES = 16
_FEW_PICTURES = 4
_MAX_LEFT_OUT = 20


def preview_data(
    config: RunConfig,
    checkpoint: Checkpoint,
    data: PreparedData,
    *,
    num_samples: int,
    numbers: Sequence[int] = (),
    on_sample: Callable[[], None] = lambda: None,
) -> Preview:
    """Some training samples of a run, with all that the model will see of them.

    Args:
        config: The run's configuration.
        checkpoint: The opened checkpoint.
        data: The run's data, read and fitted.
        num_samples: How many are shown, evenly over an epoch.
        numbers: Which are shown instead, by their number in an epoch.
        on_sample: Called after each sample.

    Raises:
        ConfigError: There is no such sample, or too many are asked for.
        DataError: A sample cannot be read any more.
    """
    train = data.train
    chosen = _chosen(numbers, num_samples, len(train.samples))
    shower = _Shower(checkpoint, train, are_many=len(chosen) > _FEW_SAMPLES)
    samples = []
    for number in chosen:
        samples.append(shower.sample(number))
        on_sample()
    return Preview(
        family=checkpoint.family.title,
        model=config.model,
        max_length=data.max_length,
        fingerprint=data.fingerprint,
        box_space=checkpoint.family.box_space,
        num_conversations=len(train.samples),
        fates=train.plan.fate_counts(),
        samples=tuple(samples),
        left_out=tuple(islice(_left_out(train), _MAX_LEFT_OUT)),
    )


def _chosen(numbers: Sequence[int], num_samples: int, num_all: int) -> list[int]:
    for number in numbers:
        if not 0 <= number < num_all:
            raise ConfigError(
                f"--sample {number}: data.train has {num_all} samples, 0 to {num_all - 1}."
            )
    wanted = len(numbers) or num_samples
    if not 1 <= wanted <= MAX_SAMPLES:
        raise ConfigError(
            f"{wanted} samples: a page shows 1 to {MAX_SAMPLES} of them. Ask for fewer with "
            "--samples, or for some of them with --sample."
        )
    return list(dict.fromkeys(numbers)) or evenly(num_samples, num_all)


class _Shower:
    """Shows the samples of one checkpoint and its data."""

    def __init__(self, checkpoint: Checkpoint, data: PlannedData, *, are_many: bool) -> None:
        self._data = data
        self._are_many = are_many
        self._preprocessing = checkpoint.preprocessing
        self._space: BoxSpace = checkpoint.family.box_space
        self._rule = checkpoint.position_rule
        self._recipes = recipes_of(checkpoint)
        self._turns = TurnReader(checkpoint.processor.tokenizer, checkpoint.family.tokens)

    def sample(self, number: int) -> ShownSample:
        item = self._data.samples.item(number)
        source = self._data.samples.conversation(item)
        sample = self._data.samples[number]
        turns = self._turns.read(sample)
        placed = build_position_ids(
            sample.layout, self._rule.rope, tokens_per_second=self._rule.tokens_per_second
        )
        origin, pre = source.origin, self._preprocessing
        return ShownSample(
            number=number,
            origin=str(origin),
            title=str(replace(origin, file=Path(origin.file.name))),
            num_tokens=sample.num_tokens,
            num_vision_tokens=sample.layout.num_vision_tokens,
            num_supervised_tokens=sample.num_supervised_tokens,
            fit=self._fit(item, source, sample),
            pictures=self._pictures(sample),
            num_pictures=len(sample.images),
            videos=self._videos(sample),
            num_videos=len(sample.videos),
            boxes=compare_boxes(source, turns, sample.images, self._space, pre),
            turns=tuple(turn.shown for turn in turns),
            position_ids=placed.position_ids,
            rope_delta=placed.rope_delta,
            spans=named_spans(sample.layout),
        )

    def _pictures(self, sample: EncodedSample) -> tuple[ShownPicture, ...]:
        most = _MAX_PICTURES_OF_MANY if self._are_many else _MAX_PICTURES
        are_many = self._are_many or len(sample.images) > _FEW_PICTURES
        return tuple(
            show_picture(
                image,
                sample.conversation.origin,
                self._recipes.image,
                self._preprocessing,
                is_one_of_many=are_many,
            )
            for image in sample.images[:most]
        )

    def _videos(self, sample: EncodedSample) -> tuple[ShownVideo, ...]:
        most = _MAX_VIDEOS_OF_MANY if self._are_many else _MAX_VIDEOS
        return tuple(
            show_video(
                video,
                sample.conversation.origin,
                self._recipes.video,
                self._preprocessing,
                self._rule.rope.temporal_rule,
            )
            for video in sample.videos[:most]
        )

    def _fit(self, item: Item, source: Conversation, sample: EncodedSample) -> ShownFit:
        fate = _fate_of(item.sample, self._data.plan)
        return ShownFit(
            fate=fate.fate,
            policies=tuple(fate.policies),
            reason=fate.reason,
            shrunk_to=_shrunk_to(sample, self._preprocessing),
            piece=item.piece,
            num_pieces=fate.num_pieces,
            turns=None if item.turns is None else (item.turns.start, item.turns.stop),
        )


def _fate_of(sample: int, plan: FitPlan) -> SampleFate:
    """The fate of a sample, by its number among all of the run."""
    first = 0
    for batch in plan.fate_batches():
        if sample - first < batch.num_rows:
            return next(fates_of(batch.slice(sample - first, 1)))
        first += batch.num_rows
    raise IndexError(sample)


def _shrunk_to(sample: EncodedSample, preprocessing: Preprocessing) -> float | None:
    """Pixels of all media as a share of what they have at the run's own limits; None for all."""
    full = seen = 0
    for image in sample.images:
        patching, budget = preprocessing.image_patching, preprocessing.image_budget
        height, width = resize_image(image.height, image.width, patching, budget)
        full += height * width
        seen += image.resized[0] * image.resized[1]
    for video in sample.videos:
        height, width = full_video_size(video, preprocessing)
        full += height * width * len(video.frame_indices)
        seen += video.resized[0] * video.resized[1] * len(video.frame_indices)
    return seen / full if seen != full else None


def _left_out(data: PlannedData) -> Iterator[LeftOut]:
    for file, entry, fate in joined(data.files, data.plan, only_changed=True):
        if fate.fate in ("dropped", "quarantined"):
            yield LeftOut(
                origin=str(entry.origin(file.reader.rows.file)),
                fate=fate.fate,
                field=entry.field,
                reason=fate.reason or "",
            )
