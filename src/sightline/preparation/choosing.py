"""A few samples that stand for all: every source, every kind of media and answer that there is."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from sightline.data import Conversation
from sightline.data.box_text import find_written
from sightline.data.conversation import BoxPart
from sightline.data.items import Item
from sightline.data.samples import PlannedSamples
from sightline.preparation.prepare import PlannedData

# Conversations that are read of each group of like ones: what the index does not know of them.
_READ_OF_A_GROUP = 12
_IMAGE, _VIDEO = 1, 2
_MEDIA = {0: "text alone", _IMAGE: "image", _VIDEO: "video", _IMAGE + _VIDEO: "image and video"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenSample:
    """A conversation that was chosen.

    Attributes:
        number: Its number in an epoch, 0-based.
        origin: Where it stands: file and line.
        kinds: What it stands for, in words: ``image``, ``boxes``, ``several turns``, ...
        length: Its tokens.
    """

    number: int
    origin: str
    kinds: tuple[str, ...]
    length: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenSamples:
    """What was chosen, and what was not.

    Attributes:
        samples: In the order of an epoch.
        num_conversations: Different conversations to choose from.
        left_out: Kinds that were met, and that none of the chosen has.
    """

    samples: tuple[ChosenSample, ...]
    num_conversations: int
    left_out: tuple[str, ...]

    def of(self, data: PlannedData) -> PlannedData:
        """The data with these conversations alone, each once."""
        samples = data.samples.only([one.number for one in self.samples])
        return replace(data, chosen=samples.positions(), samples=samples)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Candidate:
    sample: ChosenSample
    source: int
    question: Hashable

    @property
    def stands_for(self) -> frozenset[Hashable]:
        kinds = self.sample.kinds
        return frozenset([self.source, *kinds, (self.source, kinds[0])])


def choose_samples(data: PlannedData, wanted: int) -> ChosenSamples:
    """Choose conversations so that as much of the data as possible is among them.

    Each next one adds most that is new: a source, a kind of media, boxes, several turns, several
    pictures, a sample that was made to fit. Two with the same question are never both chosen: one
    model cannot know two answers to it.

    Args:
        data: The training data of a run.
        wanted: How many, at most.
    """
    candidates = list(_candidates(data, wanted))
    chosen: list[_Candidate] = []
    known: set[Hashable] = set()
    while len(chosen) < wanted:
        asked = {one.question for one in chosen}
        left = [one for one in candidates if one not in chosen and one.question not in asked]
        if not left:
            break
        # Of those that add as much, the least like what is there; the first of equals.
        times = [sum(one.stands_for == other.stands_for for other in chosen) for one in left]
        best = max(range(len(left)), key=lambda i: (len(left[i].stands_for - known), -times[i]))
        chosen.append(left[best])
        known |= left[best].stands_for
    every = dict.fromkeys(kind for one in candidates for kind in one.sample.kinds)
    return ChosenSamples(
        samples=tuple(sorted((one.sample for one in chosen), key=lambda sample: sample.number)),
        num_conversations=len(np.unique(data.samples.positions())),
        left_out=tuple(kind for kind in every if kind not in known),
    )


def _candidates(data: PlannedData, wanted: int) -> Iterator[_Candidate]:
    """Conversations of every source and kind of media, spread evenly, and read."""
    samples = data.samples
    _, firsts = np.unique(samples.positions(), return_index=True)
    numbers = np.sort(firsts)
    sources = np.asarray(data.source_of_file)[samples.column("file")[numbers]]
    videos = samples.column("num_video_tokens")[numbers]
    images = samples.column("num_vision_tokens")[numbers] - videos
    media = _IMAGE * (images > 0) + _VIDEO * (videos > 0)
    most = max(_READ_OF_A_GROUP, wanted)
    for source, kind in sorted(set(zip(sources.tolist(), media.tolist(), strict=True))):
        group = numbers[(sources == source) & (media == kind)]
        spread = np.linspace(0, len(group) - 1, min(most, len(group))).round().astype(int)
        for number in group[spread].tolist():
            yield _candidate(samples, number, source, _MEDIA[kind])


def _candidate(samples: PlannedSamples, number: int, source: int, media: str) -> _Candidate:
    item = samples.item(number)
    conversation = samples.conversation(item)
    return _Candidate(
        sample=ChosenSample(
            number=number,
            origin=str(samples.origin(number)),
            kinds=(media, *_kinds(conversation, item)),
            length=item.num_tokens,
        ),
        source=source,
        question=_question(conversation),
    )


def _kinds(conversation: Conversation, item: Item) -> Iterator[str]:
    answers = [one for one in conversation.messages if one.role == "assistant"]
    if len(list(conversation.images())) > 1:
        yield "several images"
    if len(answers) > 1:
        yield "several turns"
    if any(_has_boxes(one.text) or _holds_box(one.parts) for one in answers):
        yield "boxes"
    if item.limits.image_max_pixels is not None or item.limits.video_max_pixels is not None:
        yield "shrunk"
    if item.piece is not None:
        yield "split"


def _has_boxes(text: str) -> bool:
    return bool(find_written(text))


def _holds_box(parts: tuple[object, ...]) -> bool:
    return any(isinstance(part, BoxPart) for part in parts)


def _question(conversation: Conversation) -> Hashable:
    """What a model is given before its first answer."""
    asked: list[Hashable] = []
    for message in conversation.messages:
        if message.role == "assistant":
            break
        asked += message.parts
    return tuple(asked)
