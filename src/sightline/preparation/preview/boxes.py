"""Boxes redrawn from the token text, beside the boxes that were annotated."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sightline.data import Conversation, Message, PlannedImage
from sightline.data.box_text import WrittenBox, find_written
from sightline.data.boxes import in_file_pixels
from sightline.data.conversation import BoxPart, ReferencePart
from sightline.families import BoxSpace
from sightline.geometry import BoxFrame, Preprocessing, from_file_pixels, to_file_pixels
from sightline.preparation.preview.turns import ReadTurn
from sightline.records.preview import ShownBox, Verdict

MIN_IOU = 0.97
# Half of one for rounding; the rest for a source that was rounded before.
_ROUNDING = 1.0
# Points farther apart than this share of the diagonal are not the same point.
_POINT_REACH = 0.05

Numbers = tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Annotated:
    """An annotated box: its picture, its name, and its numbers in pixels of the file."""

    image: int
    label: str
    numbers: Numbers


def compare_boxes(
    source: Conversation,
    turns: Sequence[ReadTurn],
    images: Sequence[PlannedImage],
    space: BoxSpace,
    preprocessing: Preprocessing,
) -> tuple[ShownBox, ...]:
    """Every box and point of a sample, as annotated and as its tokens say.

    Args:
        source: The sample before its boxes were written as text.
        turns: Its turns, read back from its tokens.
        images: Its pictures at the size at which they are seen.
        space: The space in which the family writes.
        preprocessing: The run's own limits.
    """
    frames = [image.box_frame(space) for image in images]
    # A template may put a system turn before the first message, and none behind the last.
    messages = dict(zip(range(len(turns) - 1, -1, -1), reversed(source.messages), strict=False))
    shown: list[ShownBox] = []
    asked_about: tuple[int, ...] = ()
    num_images = 0
    for number, turn in enumerate(turns):
        if turn.num_images:
            asked_about = tuple(range(num_images, num_images + turn.num_images))
            num_images += turn.num_images
        message = messages.get(number)
        if turn.shown.role == "system" or not images:
            continue
        annotated = list(_annotated(message, images, preprocessing)) if message else []
        written = find_written(turn.text, bare=bool(annotated))
        for one, other in _paired(annotated, written, frames):
            shown.append(_shown(number, one, other, asked_about, frames))
    return tuple(shown)


def iou_of(one: Numbers, other: Numbers) -> float | None:
    """Intersection over union of two boxes with corners in any order; None where neither has area.

    >>> iou_of((0, 0, 10, 10), (0, 0, 10, 20))
    0.5
    """
    (ax, ay, bx, by), (cx, cy, dx, dy) = _upright(one), _upright(other)
    width, height = min(bx, dx) - max(ax, cx), min(by, dy) - max(ay, cy)
    shared = max(width, 0.0) * max(height, 0.0)
    union = (bx - ax) * (by - ay) + (dx - cx) * (dy - cy) - shared
    return shared / union if union > 0 else None


def _upright(box: Numbers) -> Numbers:
    x1, y1, x2, y2 = box
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def _annotated(
    message: Message, images: Sequence[PlannedImage], preprocessing: Preprocessing
) -> Iterator[_Annotated]:
    label = ""
    for part in message.parts:
        if isinstance(part, ReferencePart):
            label = part.text
        elif isinstance(part, BoxPart):
            numbers = in_file_pixels(part, images[part.image], preprocessing)
            yield _Annotated(image=part.image, label=label, numbers=numbers)


def _paired(
    annotated: Sequence[_Annotated], written: Sequence[WrittenBox], frames: Sequence[BoxFrame]
) -> Iterator[tuple[_Annotated | None, WrittenBox | None]]:
    """Annotated and written boxes of a turn in their common order, what has no partner alone.

    A text has its boxes in the order of the annotation. Where it has more or fewer, the pairs are
    those that keep the order and overlap most.
    """
    lengths = [len(box.numbers) for box in annotated]
    if lengths == [len(box.numbers) for box in written]:
        yield from zip(annotated, written, strict=True)
        return
    rows, columns = len(annotated), len(written)
    # best[i][j]: the most that the boxes from i and from j can overlap.
    best = [[0.0] * (columns + 1) for _ in range(rows + 1)]
    alike = [[_alike(one, other, frames[one.image]) for other in written] for one in annotated]
    for i in range(rows - 1, -1, -1):
        for j in range(columns - 1, -1, -1):
            both = best[i + 1][j + 1] + alike[i][j] if alike[i][j] > 0 else 0.0
            best[i][j] = max(both, best[i + 1][j], best[i][j + 1])
    i = j = 0
    while i < rows or j < columns:
        overlap = alike[i][j] if i < rows and j < columns else 0.0
        if overlap > 0 and best[i][j] == best[i + 1][j + 1] + overlap:
            yield annotated[i], written[j]
            i, j = i + 1, j + 1
        elif i < rows and (j == columns or best[i][j] == best[i + 1][j]):
            yield annotated[i], None
            i += 1
        else:
            yield None, written[j]
            j += 1


def _alike(one: _Annotated, other: WrittenBox, frame: BoxFrame) -> float:
    if len(one.numbers) != len(other.numbers):
        return 0.0
    redrawn = _redrawn(other.numbers, frame)
    if len(redrawn) == 4:
        return iou_of(one.numbers, redrawn) or 0.0
    reach = _POINT_REACH * math.hypot(frame.file_width, frame.file_height)
    return max(0.0, 1 - math.dist(one.numbers, redrawn) / reach)


def _shown(
    turn: int,
    annotated: _Annotated | None,
    written: WrittenBox | None,
    asked_about: tuple[int, ...],
    frames: Sequence[BoxFrame],
) -> ShownBox:
    images = asked_about if annotated is None else (annotated.image,)
    numbers = None if written is None else written.numbers
    redrawn: tuple[Numbers, ...] = ()
    if numbers is not None:
        redrawn = tuple(_redrawn(numbers, frames[image]) for image in images)
    iou = None
    if annotated is not None and redrawn and len(redrawn[0]) == 4:
        iou = iou_of(annotated.numbers, redrawn[0])
    label = written.label if written is not None else ""
    return ShownBox(
        images=images,
        turn=turn,
        label=label or (annotated.label if annotated is not None else ""),
        written=numbers,
        redrawn=redrawn,
        annotated=None if annotated is None else annotated.numbers,
        iou=iou,
        verdict=_verdict(numbers, annotated, iou, [frames[image] for image in images]),
    )


def _verdict(
    numbers: Numbers | None,
    annotated: _Annotated | None,
    iou: float | None,
    frames: Sequence[BoxFrame],
) -> Verdict:
    if numbers is None:
        return "missing"
    if len(numbers) == 4 and (numbers[2] < numbers[0] or numbers[3] < numbers[1]):
        return "inverted"
    if frames and all(_is_outside(numbers, frame) for frame in frames):
        return "outside"
    if annotated is None:
        return "text_only"
    if iou is not None and iou >= MIN_IOU:
        return "agrees"
    if not _is_rounded(numbers, annotated.numbers, frames[0]):
        return "differs"
    return "agrees" if iou is None else "rounded"


def _units(frame: BoxFrame) -> tuple[float, float]:
    """Width and height of a picture in the family's space."""
    whole = (0.0, 0.0, float(frame.file_width), float(frame.file_height))
    _, _, width, height = from_file_pixels(whole, frame)
    return width, height


def _is_outside(numbers: Numbers, frame: BoxFrame) -> bool:
    units = _units(frame)
    return any(
        not -_ROUNDING <= number <= units[place % 2] + _ROUNDING
        for place, number in enumerate(numbers)
    )


def _is_rounded(numbers: Numbers, annotated: Numbers, frame: BoxFrame) -> bool:
    """Whether each number is the annotated one, inside the picture, but for rounding."""
    units = _units(frame)
    exact = from_file_pixels(_as_box(annotated), frame)
    return all(
        abs(number - min(max(exact[place], 0.0), units[place % 2])) <= _ROUNDING
        for place, number in enumerate(numbers)
    )


def _redrawn(numbers: Numbers, frame: BoxFrame) -> Numbers:
    return to_file_pixels(_as_box(numbers), frame)[: len(numbers)]


def _as_box(numbers: Numbers) -> tuple[float, float, float, float]:
    """A point as a box of no size, so that one map takes both."""
    x1, y1, x2, y2 = numbers if len(numbers) == 4 else numbers * 2
    return x1, y1, x2, y2
