"""Parts of a conversation as conversations of their own: whole turns, with the media they need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sightline.data.conversation import (
    BoxPart,
    Conversation,
    ImagePart,
    Message,
    Part,
    VideoPart,
)


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Turns:
    """A range of the messages of a conversation, the system message not counted.

    Attributes:
        start: First message, a user's.
        stop: Behind the last message, an assistant's.
    """

    start: int
    stop: int


def turns_of(conversation: Conversation) -> Sequence[Message]:
    """The messages without the system's."""
    has_system = conversation.messages[0].role == "system"
    return conversation.messages[1:] if has_system else conversation.messages


def segments_of(conversation: Conversation, turns: Turns) -> list[Turns]:
    """The range cut before every question that brings media of its own.

    Questions before the first of them belong to it.
    """
    messages = turns_of(conversation)
    starts = [
        index
        for index in range(turns.start, turns.stop)
        if messages[index].role == "user" and messages[index].has_media
    ]
    starts[:1] = [turns.start]
    stops = [*starts[1:], turns.stop]
    return [Turns(start=start, stop=stop) for start, stop in zip(starts, stops, strict=True)]


def cut(conversation: Conversation, turns: Turns, piece: int | None = None) -> Conversation:
    """Some turns of a conversation, with the system message and the media that they need.

    A question without media is about the media of the last question before it that has some. Media
    of turns that are left out, but are needed, go to the front of the first question; so do images
    that a box belongs to.

    Args:
        conversation: The whole sample.
        turns: Which of its turns.
        piece: Number of the piece, where there are several.
    """
    messages = turns_of(conversation)
    origin = replace(conversation.origin, piece=piece)
    if turns == Turns(start=0, stop=len(messages)):
        return replace(conversation, origin=origin)
    system = conversation.messages[: len(conversation.messages) - len(messages)]
    kept = list(messages[turns.start : turns.stop])
    carried = _carried(messages, turns)
    kept[0] = replace(kept[0], parts=(*carried, *kept[0].parts))
    numbers = {id(image): number for number, image in enumerate(conversation.images())}
    new_numbers = {
        numbers[id(part)]: new
        for new, part in enumerate(
            part for message in kept for part in message.parts if isinstance(part, ImagePart)
        )
    }
    kept = [_renumbered(message, new_numbers) for message in kept]
    return replace(conversation, messages=(*system, *kept), origin=origin)


def _carried(messages: Sequence[Message], turns: Turns) -> list[Part]:
    """Media of earlier turns that the range needs, in their order."""
    earlier: list[tuple[int, Part]] = [
        (index, part)
        for index in range(turns.start)
        for part in messages[index].parts
        if isinstance(part, ImagePart | VideoPart)
    ]
    needed = _images_of_boxes(messages, turns)
    last = None
    if not messages[turns.start].has_media and earlier:
        last = earlier[-1][0]
    number, carried = 0, []
    for index, part in earlier:
        is_named = isinstance(part, ImagePart) and number in needed
        number += isinstance(part, ImagePart)
        if index == last or is_named:
            carried.append(part)
    return carried


def _images_of_boxes(messages: Sequence[Message], turns: Turns) -> set[int]:
    return {
        part.image
        for message in messages[turns.start : turns.stop]
        for part in message.parts
        if isinstance(part, BoxPart)
    }


def _renumbered(message: Message, new_numbers: dict[int, int]) -> Message:
    """The message with its boxes on the new numbers of their images."""
    if not any(isinstance(part, BoxPart) for part in message.parts):
        return message
    parts = tuple(
        replace(part, image=new_numbers[part.image]) if isinstance(part, BoxPart) else part
        for part in message.parts
    )
    return replace(message, parts=parts)
