"""Questions of a data set: what is asked, what the annotated answer is, and where it points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from sightline.data import Conversation, EncodedSample, Encoder, PlannedImage
from sightline.data.boxes import in_file_pixels
from sightline.data.conversation import BoxPart, ImagePart, Message, TextPart, VideoPart
from sightline.data.samples import PlannedSamples
from sightline.evaluation.prediction import Located
from sightline.evaluation.reading import FoundObject, read_answer
from sightline.families import BoxSpace
from sightline.geometry import BoxFrame, to_file_pixels

Turns = Literal["last", "all"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A turn of the data that is to be answered.

    Attributes:
        sample: Number of the conversation in the plan of the data.
        index: Its place among the samples.
        turn: Number of the answered message; None for the last one.
        num_tokens: Length of the conversation.
    """

    sample: int
    index: int
    turn: int | None
    num_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A question with everything that is known of it.

    Attributes:
        question: Which.
        turn: Number of the answered message, from 0.
        source: Name of the source.
        prompt: The turns before the answer, ready for generation.
        words: Words of the question, media as ``<image>`` and ``<video>``.
        annotation: The annotated answer, as the family writes it.
        annotated: Its boxes and points, in pixels of the file.
        frame: What boxes of an answer refer to; None where it is not known in which picture they
            are.
        media: Media of the conversation up to there: kind, path, and sizes in pixels.
    """

    question: Question
    turn: int
    source: str
    prompt: EncodedSample
    words: str
    annotation: str
    annotated: tuple[Located, ...]
    frame: BoxFrame | None
    media: tuple[dict[str, Any], ...]


def questions_of(
    samples: PlannedSamples, turns: Turns, wanted: int | None = None
) -> list[Question]:
    """Questions of a data set, each conversation once whatever its weight.

    Args:
        samples: The conversations.
        turns: ``last``: the last answer of each conversation; ``all``: each that the loss would
            see, after the annotated ones before it.
        wanted: Take so many of the conversations, evenly over all; None takes each.
    """
    positions, firsts = np.unique(samples.positions(), return_index=True)
    lengths = samples.column("num_tokens")
    picked = range(len(firsts)) if wanted is None else _spread(len(firsts), wanted)
    questions = []
    for place in picked:
        index = int(firsts[place])
        whole = Question(
            sample=int(positions[place]),
            index=index,
            turn=None,
            num_tokens=int(lengths[index]),
        )
        if turns == "last":
            questions.append(whole)
            continue
        messages = samples.conversation(samples.item(index)).messages
        questions += [
            replace(whole, turn=turn)
            for turn, message in enumerate(messages)
            if message.role == "assistant" and message.is_trained
        ]
    return questions


def ask(
    question: Question,
    samples: PlannedSamples,
    encoder: Encoder,
    *,
    space: BoxSpace,
    sources: Sequence[str],
) -> Asked:
    """Read and encode a question.

    Args:
        question: Which.
        samples: The conversations.
        encoder: The checkpoint's encoder.
        space: The space in which the family writes boxes.
        sources: Name of the source of every file of the data.

    Raises:
        DataError: The sample cannot be used any more.
    """
    item = samples.item(question.index)
    conversation = samples.conversation(item)
    turn = len(conversation.messages) - 1 if question.turn is None else question.turn
    conversation = replace(conversation, messages=conversation.messages[: turn + 1])
    whole = encoder.encode(conversation, item.limits)
    frames = [image.box_frame(space) for image in whole.images]
    annotation = whole.conversation.messages[-1].text
    frame = _frame_of_answer(conversation, frames)
    return Asked(
        question=question,
        turn=turn,
        source=sources[item.file],
        prompt=encoder.encode_prompt(conversation, item.limits),
        words=_words(whole.conversation),
        annotation=annotation,
        annotated=_annotated(conversation.messages[-1], annotation, frame, whole.images, encoder),
        frame=frame,
        media=_media(whole),
    )


def in_picture(found: FoundObject, frame: BoxFrame, score: float = 1.0) -> Located:
    """A box or a point of an answer in pixels of the picture's file.

    Args:
        found: As the answer has it.
        frame: What it refers to.
        score: How sure the model was of it.
    """
    numbers = found.numbers
    x1, y1, x2, y2 = numbers if len(numbers) == 4 else numbers * 2
    sides = to_file_pixels((x1, y1, x2, y2), frame)[: len(numbers)]
    return Located(label=found.label, numbers=sides, score=score)


def _annotated(
    message: Message,
    annotation: str,
    frame: BoxFrame | None,
    images: Sequence[PlannedImage],
    encoder: Encoder,
) -> tuple[Located, ...]:
    """Annotated boxes: exact where the source says what their numbers mean, else by their text."""
    found = read_answer(annotation).found
    exact = [
        in_file_pixels(part, images[part.image], encoder.preprocessing)
        for part in message.parts
        if isinstance(part, BoxPart)
    ]
    if exact and [len(one.numbers) for one in found] == [len(numbers) for numbers in exact]:
        return tuple(
            Located(label=one.label, numbers=numbers)
            for one, numbers in zip(found, exact, strict=True)
        )
    if exact:
        return tuple(Located(label="", numbers=numbers) for numbers in exact)
    return () if frame is None else tuple(in_picture(one, frame) for one in found)


def _frame_of_answer(conversation: Conversation, frames: Sequence[BoxFrame]) -> BoxFrame | None:
    """What boxes of the last turn refer to, where it is known."""
    if not frames:
        return None
    named = {part.image for part in conversation.messages[-1].parts if isinstance(part, BoxPart)}
    asked = _asked_about(conversation)
    among = named or asked or set(range(len(frames)))
    # Pictures of one size, seen at one size, are alike here.
    alike = {frames[image] for image in among}
    return next(iter(alike)) if len(alike) == 1 else None


def _asked_about(conversation: Conversation) -> set[int]:
    """Images of the last question that brings any."""
    number, asked = 0, set[int]()
    for message in conversation.messages:
        count = sum(isinstance(part, ImagePart) for part in message.parts)
        if count:
            asked = set(range(number, number + count))
            number += count
    return asked


def _words(conversation: Conversation) -> str:
    """The last question."""
    questions = [message for message in conversation.messages if message.role == "user"]
    return "".join(_said(part) for part in questions[-1].parts) if questions else ""


def _said(part: object) -> str:
    if isinstance(part, TextPart):
        return part.text
    return "<video>" if isinstance(part, VideoPart) else "<image>"


def _media(sample: EncodedSample) -> tuple[dict[str, Any], ...]:
    kinds = [("image", one) for one in sample.images] + [("video", one) for one in sample.videos]
    return tuple(
        {
            "kind": kind,
            "path": str(one.part.path).encode("utf-8", "replace").decode(),
            "width": one.width,
            "height": one.height,
            "seen_width": one.resized[1],
            "seen_height": one.resized[0],
        }
        for kind, one in kinds
    )


def _spread(number: int, wanted: int) -> list[int]:
    """Numbers spread evenly."""
    return np.unique(np.linspace(0, number - 1, min(wanted, number)).round().astype(int)).tolist()
