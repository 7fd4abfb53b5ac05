"""What a sample is after parsing: turns of text, images and videos that know where they stand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sightline.errors import DataError

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Where a sample stands in the user's data.

    Attributes:
        file: The data file, or the name of a hub data set.
        line: 1-based line at which the sample begins; None in tables, which have rows instead.
        index: 0-based index of the row in that file.
        part: 0-based index inside a row that packs several samples; None for other rows.
        piece: 0-based index among the conversations that one sample was split into.
        place: What names the sample in a file that is no list of samples:
            ``images[3] (id 42)``.
    """

    file: Path
    line: int | None
    index: int
    part: int | None = None
    piece: int | None = None
    place: str | None = None

    def __str__(self) -> str:
        where = str(self.file) if self.line is None else f"{self.file}:{self.line}"
        inside = self._inside()
        return where if inside is None else f"{where} {inside}"

    def error(
        self,
        what: str,
        *,
        field: str | None = None,
        fix: str | None = None,
        code: str = "sample.wrong",
        kind: type[DataError] = DataError,
    ) -> DataError:
        """An error about this sample."""
        inside = self._inside()
        named = ", ".join(name for name in (inside, field) if name)
        return kind(what, file=self.file, line=self.line, field=named or None, fix=fix, code=code)

    def _inside(self) -> str | None:
        if self.place is not None:
            return self.place
        if self.line is None:
            return f"row {self.index}"
        return None if self.part is None else f"[{self.part}]"


@dataclass(frozen=True, kw_only=True, slots=True)
class TextPart:
    """A piece of text inside a message, without any placeholder."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagePart:
    """An image inside a message.

    Attributes:
        path: The image file, absolute; a name to show where the row holds the bytes themselves.
        field: Path of the field that names it, for messages: ``images[0]``.
        content: The bytes of the file where the row holds them; None: they are read from
            ``path``.
    """

    path: Path
    field: str
    content: bytes | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoPart:
    """A video inside a message: a file, or a list of pictures that are its frames.

    Attributes:
        path: The video file, absolute; a name to show where the row holds the bytes themselves;
            the first frame of a list.
        field: Path of the field that names it, for messages: ``videos[0]``.
        content: The bytes of the file where the row holds them.
        frames: The files of a list of frames, absolute, in their order; None for a video file.
        frame_seconds: When each frame of a list is shown, ascending, where the row says it.
        frame_fps: Frames a second of a list, where the row says it.
    """

    path: Path
    field: str
    content: bytes | None = None
    frames: tuple[Path, ...] | None = None
    frame_seconds: tuple[float, ...] | None = None
    frame_fps: float | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that it is read from."""
        return (self.path,) if self.frames is None else self.frames


@dataclass(frozen=True, kw_only=True, slots=True)
class BoxPart:
    """A box or a point that becomes text when the size is known at which its image is seen.

    Attributes:
        numbers: x1, y1, x2, y2, or x, y.
        space: ``pixels`` of the image file as shown, ``unit``: 0 to 1 of each side,
            ``thousandths`` of each side, ``resized``: pixels of the image at the size that the
            run's own limits give it, or ``longest``: thousandths of the longer side on both axes.
        image: 0-based index among the images of the conversation.
        field: Path of the field that holds it: ``objects.bbox[0]``.
        others: Other images that it may be in, where the source does not say in which; they must be
            of one size, or the size must not matter.
        is_stored: Whether the numbers are on the pixels as the file stores them, before its EXIF
            orientation turns them.
        form: How it is written whatever the family does: ``list``, because it stands inside JSON,
            or ``tokens``; None for the family's own way.
    """

    numbers: tuple[float, ...]
    space: Literal["pixels", "unit", "thousandths", "resized", "longest"]
    image: int
    field: str
    form: Literal["list", "tokens"] | None = None
    is_stored: bool = False
    others: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferencePart:
    """The name of an object, marked as one in the families that have tokens for it."""

    text: str


Part = TextPart | ImagePart | VideoPart | BoxPart | ReferencePart
_MEDIA = (ImagePart, VideoPart)


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One turn.

    Attributes:
        role: system, user or assistant.
        parts: Text, images and videos in the order in which the model sees them. Neighbouring
            text is one part.
        field: Path of the field it was read from: ``conversations[1]``.
        is_trained: Whether the loss sees it; only answers have a choice.
    """

    role: Role
    parts: tuple[Part, ...]
    field: str
    is_trained: bool = True

    @property
    def text(self) -> str:
        """The text parts joined; media and boxes are left out."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def has_media(self) -> bool:
        """Whether an image or a video stands in it."""
        return any(isinstance(part, _MEDIA) for part in self.parts)


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
