"""Boxes as a family writes them, once the size is known at which their picture is seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sightline.data.conversation import (
    BoxPart,
    Conversation,
    Part,
    ReferencePart,
    TextPart,
)
from sightline.data.images import exif_orientation
from sightline.data.media import PlannedImage
from sightline.families import TrainableFamily
from sightline.geometry import Preprocessing, resize_image, turned_upright

# EXIF orientations that swap width and height.
_SIDEWAYS = (5, 6, 7, 8)


@dataclass(frozen=True, kw_only=True, slots=True)
class BoxWriting:
    """How a family writes boxes.

    Attributes:
        space: ``thousandths`` of each side, or ``resized_pixels`` of the picture as it is seen.
        text: ``tokens``: ``<|box_start|>(x1,y1),(x2,y2)<|box_end|>``; ``list``:
            ``[x1, y1, x2, y2]``.
    """

    space: Literal["thousandths", "resized_pixels"]
    text: Literal["tokens", "list"]

    @classmethod
    def of(cls, family: TrainableFamily) -> BoxWriting:
        """The writing of a family."""
        return cls(space=family.box_space, text=family.box_text)


def has_boxes(conversation: Conversation) -> bool:
    """Whether boxes or references have still to become text."""
    return any(
        isinstance(part, BoxPart | ReferencePart)
        for message in conversation.messages
        for part in message.parts
    )


def write_boxes(
    conversation: Conversation,
    images: Sequence[PlannedImage],
    writing: BoxWriting,
    preprocessing: Preprocessing,
) -> Conversation:
    """The conversation with its boxes as text, each by the size at which its own image is seen.

    Args:
        conversation: The parsed sample.
        images: Its images, planned at the size at which they are seen.
        writing: How the family writes.
        preprocessing: The run's own limits, whatever this sample is shrunk to.

    Raises:
        DataError: A box lies outside its picture, or its corners are out of order.
    """
    if not has_boxes(conversation):
        return conversation
    messages = []
    for message in conversation.messages:
        parts: list[Part] = []
        for part in message.parts:
            if isinstance(part, BoxPart):
                parts.append(
                    TextPart(text=_written(part, images, writing, preprocessing, conversation))
                )
            elif isinstance(part, ReferencePart):
                parts.append(TextPart(text=_reference(part, writing)))
            else:
                parts.append(part)
        messages.append(replace(message, parts=_joined(parts)))
    return replace(conversation, messages=tuple(messages))


def in_file_pixels(
    part: BoxPart, image: PlannedImage, preprocessing: Preprocessing
) -> tuple[float, ...]:
    """The numbers of a box or a point in pixels of its picture's file, upright.

    Args:
        part: The box as the source has it.
        image: Its picture.
        preprocessing: The run's own limits, whatever the sample is shrunk to.
    """
    shares = _shares(part, image, preprocessing)
    sides = image.width, image.height
    return tuple(share * sides[place % 2] for place, share in enumerate(shares))


def _written(
    part: BoxPart,
    images: Sequence[PlannedImage],
    writing: BoxWriting,
    preprocessing: Preprocessing,
    conversation: Conversation,
) -> str:
    image = images[part.image]
    _refuse_ambiguous(part, images, writing, conversation)
    shares = _shares(part, image, preprocessing)
    xs, ys = shares[::2], shares[1::2]
    _refuse_damaged(part, xs, ys, image, preprocessing, conversation)
    if writing.space == "thousandths":
        across, down = 1000, 1000
    else:
        down, across = image.resized
    numbers = [0] * len(part.numbers)
    numbers[::2] = [min(max(round(x * across), 0), across) for x in xs]
    numbers[1::2] = [min(max(round(y * down), 0), down) for y in ys]
    if (part.form or writing.text) == "list":
        return str(numbers)
    corners = (f"({x},{y})" for x, y in zip(numbers[::2], numbers[1::2], strict=True))
    return f"<|box_start|>{','.join(corners)}<|box_end|>"


def _shares(part: BoxPart, image: PlannedImage, preprocessing: Preprocessing) -> tuple[float, ...]:
    """The numbers of a box as shares of the sides of its picture, as it is shown."""
    orientation = 1
    if part.is_stored:
        of = image.part
        orientation = exif_orientation(of.path, field=of.field, content=of.content)
    width, height = _sides(part, image, preprocessing, orientation)
    points = [
        turned_upright(x / width, y / height, orientation)
        for x, y in zip(part.numbers[::2], part.numbers[1::2], strict=True)
    ]
    if orientation == 1:
        return tuple(share for point in points for share in point)
    # Corners that were in order stay so, and those that were not do not become so.
    xs, ys = zip(*points, strict=True)
    if len(points) == 1:
        return xs[0], ys[0]
    if _are_ordered(part.numbers):
        return min(xs), min(ys), max(xs), max(ys)
    return max(xs), max(ys), min(xs), min(ys)


def _are_ordered(numbers: Sequence[float]) -> bool:
    x1, y1, x2, y2 = numbers
    return x1 <= x2 and y1 <= y2


def _sides(
    part: BoxPart, image: PlannedImage, preprocessing: Preprocessing, orientation: int = 1
) -> tuple[float, float]:
    """Width and height of the picture in the space of the box."""
    width, height = image.width, image.height
    if orientation in _SIDEWAYS:
        width, height = height, width
    if part.space == "pixels":
        return width, height
    if part.space == "resized":
        patching, budget = preprocessing.image_patching, preprocessing.image_budget
        down, across = resize_image(height, width, patching, budget)
        return across, down
    if part.space == "longest":
        longest = max(width, height)
        return 1000.0 * width / longest, 1000.0 * height / longest
    side = 1.0 if part.space == "unit" else 1000.0
    return side, side


def _refuse_ambiguous(
    part: BoxPart,
    images: Sequence[PlannedImage],
    writing: BoxWriting,
    conversation: Conversation,
) -> None:
    """Refuse a box that would be written otherwise for another picture that it may be in."""
    are_shares = part.space in ("unit", "thousandths") and writing.space == "thousandths"
    if not part.others or (are_shares and not part.is_stored):
        return
    among = [images[index] for index in (*part.others, part.image)]
    sizes = dict.fromkeys((image.width, image.height) for image in among)
    if len(sizes) > 1 or part.is_stored:
        shown = " and ".join(f"{width} x {height}" for width, height in sizes)
        raise conversation.origin.error(
            f"a box stands in a turn about {len(among)} pictures of {shown} pixels, and says of "
            "none of them that it is in it.",
            field=part.field,
            fix="Give boxes with their image as ms-swift's objects, or leave text_boxes out: then "
            "the text stays as it is.",
            code="box.image",
        )


def _refuse_damaged(
    part: BoxPart,
    xs: Sequence[float],
    ys: Sequence[float],
    image: PlannedImage,
    preprocessing: Preprocessing,
    conversation: Conversation,
) -> None:
    shown = ", ".join(f"{number:g}" for number in part.numbers)
    # A side may end half a pixel outside, where the annotation rounds.
    slack_x, slack_y = 2 / image.width, 2 / image.height
    if not (
        all(-slack_x <= x <= 1 + slack_x for x in xs)
        and all(-slack_y <= y <= 1 + slack_y for y in ys)
    ):
        goes_to = {"unit": "0 to 1", "thousandths": "0 to 1000"}.get(part.space)
        width, height = _sides(part, image, preprocessing)
        resized = " when resized" if part.space == "resized" else ""
        unit = " (thousandths of the longer side)" if part.space == "longest" else " pixels"
        goes_to = goes_to or f"{width:g} x {height:g}{unit}{resized}"
        raise conversation.origin.error(
            f"the box [{shown}] lies outside its picture of {goes_to}.",
            field=part.field,
            fix="Mend the box, or say in which space it is.",
            code="box.outside",
        )
    if len(xs) == 2 and (xs[1] < xs[0] or ys[1] < ys[0]):
        raise conversation.origin.error(
            f"the corners of the box [{shown}] are out of order: x1, y1, x2, y2 expected.",
            field=part.field,
            fix="Put the upper left corner first.",
            code="box.order",
        )


def _reference(part: ReferencePart, writing: BoxWriting) -> str:
    if writing.text == "tokens":
        return f"<|object_ref_start|>{part.text}<|object_ref_end|>"
    return part.text


def _joined(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Neighbouring text as one part."""
    joined: list[Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(part, TextPart) and isinstance(last, TextPart):
            joined[-1] = TextPart(text=last.text + part.text)
        else:
            joined.append(part)
    return tuple(joined)
