"""The index of a source: one row a sample, in Arrow files that are mapped, never loaded."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from sightline.data.conversation import (
    BoxPart,
    Conversation,
    ImagePart,
    Origin,
    Part,
    ReferencePart,
    TextPart,
    VideoPart,
)
from sightline.data.encode import Measure
from sightline.data.media import PlannedImage, PlannedVideo
from sightline.errors import DataError

# Raised when what an index says changes its meaning: older ones are made anew.
SCHEMA_VERSION = 2

_MEDIUM = pa.struct(
    [
        ("is_video", pa.bool_()),
        ("path", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("t", pa.int32()),
        ("h", pa.int32()),
        ("w", pa.int32()),
        # Size and time of the file; bytes that stand in the row have none.
        ("num_bytes", pa.int64()),
        ("mtime_ns", pa.int64()),
    ]
)
SCHEMA = pa.schema(
    [
        ("line", pa.int64()),
        ("row", pa.int64()),
        ("part", pa.int32()),
        ("file", pa.string()),
        ("place", pa.string()),
        ("offset", pa.int64()),
        ("num_bytes", pa.int64()),
        ("format", pa.string()),
        ("num_text_tokens", pa.int32()),
        ("num_image_tokens", pa.int32()),
        ("num_video_tokens", pa.int32()),
        ("num_supervised_tokens", pa.int32()),
        ("num_turns", pa.int32()),
        ("media", pa.list_(_MEDIUM)),
        ("digest", pa.binary(16)),
        ("code", pa.string()),
        ("what", pa.string()),
        ("field", pa.string()),
        ("fix", pa.string()),
    ]
)


_WORDS = (TextPart, ReferencePart)
# No path has it.
_BETWEEN_FRAMES = "\0"
_NO_FAULT = (None, None, None, None)


class Entry(NamedTuple):
    """One sample of the index; counts are 0 and the digest is empty where it has a fault.

    The fields are the columns of `SCHEMA`.
    """

    line: int | None
    row: int
    part: int | None
    file: str | None
    place: str | None
    offset: int
    num_bytes: int
    format: str | None
    num_text_tokens: int
    num_image_tokens: int
    num_video_tokens: int
    num_supervised_tokens: int
    num_turns: int
    media: list[dict[str, Any]]
    digest: bytes | None
    code: str | None
    what: str | None
    field: str | None
    fix: str | None

    @property
    def num_tokens(self) -> int:
        """Length of the sample."""
        return self.num_text_tokens + self.num_image_tokens + self.num_video_tokens

    def origin(self, file: Path) -> Origin:
        """Where the sample stands."""
        return Origin(
            file=file if self.file is None else Path(self.file),
            line=self.line,
            index=self.row,
            part=self.part,
            place=self.place,
        )

    def fault(self, file: Path) -> DataError:
        """Why the sample cannot be used."""
        assert self.what is not None
        origin = self.origin(file)
        return DataError(
            self.what,
            file=origin.file,
            line=self.line,
            field=self.field,
            fix=self.fix,
            code=self.code or "sample.wrong",
        )


def good_entry(
    measure: Measure, *, file: Path, offset: int, num_bytes: int, format_name: str | None
) -> Entry:
    """The row of a sample that can be used."""
    media = [_medium(image, False) for image in measure.images]
    media += [_medium(video, True) for video in measure.videos]
    # In the order of the fields: names would take longer than the rest.
    return Entry(
        *_place(measure.conversation.origin, file),
        offset,
        num_bytes,
        format_name,
        measure.num_text_tokens,
        measure.num_image_tokens,
        measure.num_video_tokens,
        measure.num_supervised_tokens,
        len(measure.conversation.messages),
        media,
        digest_of(measure.conversation),
        *_NO_FAULT,
    )


def bad_entry(
    fault: DataError,
    *,
    origin: Origin,
    file: Path,
    offset: int,
    num_bytes: int,
    format_name: str | None,
) -> Entry:
    """The row of a sample that cannot be used."""
    return Entry(
        *_place(origin, file),
        offset,
        num_bytes,
        format_name,
        num_text_tokens=0,
        num_image_tokens=0,
        num_video_tokens=0,
        num_supervised_tokens=0,
        num_turns=0,
        media=[],
        digest=None,
        code=fault.code,
        what=_printable(fault.what),
        field=_printable(fault.field),
        fix=_printable(fault.fix),
    )


def record_batch(entries: list[Entry]) -> pa.RecordBatch:
    """Rows as a batch."""
    columns = zip(*entries, strict=True) if entries else [[] for _ in SCHEMA]
    arrays = [
        pa.array(column, type=field.type) for column, field in zip(columns, SCHEMA, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def entries_of(batch: pa.RecordBatch) -> Iterator[Entry]:
    """The rows of a batch."""
    columns = (column.to_pylist() for column in batch.columns)
    return (Entry(*row) for row in zip(*columns, strict=True))


def digest_of(conversation: Conversation) -> bytes:
    """The same for conversations that say the same about the same files."""
    said = [
        piece
        for message in conversation.messages
        for piece in (message.role.encode(), *map(_said, message.parts))
    ]
    return hashlib.blake2b(b"\0".join(said), digest_size=16).digest()


def _said(part: Part) -> bytes:
    if isinstance(part, _WORDS):
        return part.text.encode("utf-8", "surrogateescape")
    if isinstance(part, BoxPart):
        return f"{part.numbers} {part.space} {part.image}".encode()
    if part.content is None and isinstance(part, VideoPart) and part.frames is not None:
        listed = b"\1".join(os.fsencode(path) for path in part.frames)
        return listed + f"{part.frame_seconds} {part.frame_fps}".encode()
    return part.content or os.fsencode(part.path)


def _place(
    origin: Origin, file: Path
) -> tuple[int | None, int, int | None, str | None, str | None]:
    """The first fields of an entry."""
    other = None if origin.file is file or origin.file == file else str(origin.file)
    return origin.line, origin.index, origin.part, other, origin.place


def _medium(planned: PlannedImage | PlannedVideo, is_video: bool) -> dict[str, Any]:
    t, h, w = planned.grid_thw
    path = name_of_medium(planned.part)
    num_bytes, mtime_ns = None, None
    if planned.part.content is None:
        num_bytes, mtime_ns = stamp_of_medium(path)
    return {
        "is_video": is_video,
        "path": path if path.isascii() else _printable(path),
        "height": planned.height,
        "width": planned.width,
        "t": t,
        "h": h,
        "w": w,
        "num_bytes": num_bytes,
        "mtime_ns": mtime_ns,
    }


def name_of_medium(part: ImagePart | VideoPart) -> str:
    """The column ``path``: the file, or all files of a list of frames."""
    if isinstance(part, VideoPart) and part.frames is not None:
        return _BETWEEN_FRAMES.join(map(str, part.frames))
    return str(part.path)


def stamp_of_medium(name: str) -> tuple[int | None, int | None]:
    """Size and time of a medium: of all its frames together, and of the newest of them.

    Args:
        name: See `name_of_medium`.

    Returns:
        Bytes and nanoseconds; neither where a file is gone.
    """
    num_bytes = mtime_ns = 0
    try:
        for path in name.split(_BETWEEN_FRAMES):
            status = os.stat(path)  # noqa: PTH116 - asked for every file of every sample
            num_bytes += status.st_size
            mtime_ns = max(mtime_ns, status.st_mtime_ns)
    except (OSError, ValueError):
        return None, None
    return num_bytes, mtime_ns


def _printable(text: str | None) -> str | None:
    """Text that Arrow can hold: half characters become question marks."""
    return None if text is None else text.encode("utf-8", "replace").decode("utf-8")
