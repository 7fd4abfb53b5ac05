"""What a sample is after parsing: turns of text, images and videos that know where they stand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Where a sample stands in the user's data.

    Attributes:
        file: The data file.
        line: 1-based line at which the sample begins.
        index: 0-based index of the sample in that file.
    """

    file: Path
    line: int
    index: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TextPart:
    """A piece of text inside a message, without any placeholder."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagePart:
    """An image inside a message.

    Attributes:
        path: The image file, absolute.
        field: Path of the field that names it, for messages: ``images[0]``.
    """

    path: Path
    field: str


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoPart:
    """A video file inside a message.

    Attributes:
        path: The video file, absolute.
        field: Path of the field that names it, for messages: ``videos[0]``.
    """

    path: Path
    field: str


Part = TextPart | ImagePart | VideoPart


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One turn.

    Attributes:
        role: system, user or assistant.
        parts: Text, images and videos in the order in which the model sees them. Neighbouring
            text is one part.
        field: Path of the field it was read from: ``conversations[1]``.
    """

    role: Role
    parts: tuple[Part, ...]
    field: str

    @property
    def text(self) -> str:
        """The text parts joined, media left out."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversation:
    """A parsed sample: its turns and where they came from."""

    messages: tuple[Message, ...]
    origin: Origin

    def images(self) -> Iterator[ImagePart]:
        """Images in the order in which the model sees them."""
        for message in self.messages:
            yield from (part for part in message.parts if isinstance(part, ImagePart))

    def videos(self) -> Iterator[VideoPart]:
        """Videos in the order in which the model sees them."""
        for message in self.messages:
            yield from (part for part in message.parts if isinstance(part, VideoPart))
