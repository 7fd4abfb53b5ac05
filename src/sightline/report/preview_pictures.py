"""Pictures and frames of a preview as shapes of an inline SVG: pixels, patch grid, boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from sightline.records.preview import WRONG, ShownBox, ShownPicture, ShownVideo
from sightline.report.pictures import embed
from sightline.report.quantities import size_text
from sightline.report.visible import visible_text

MAX_ROWS = 40
_WIDEST_PIXELS, _HIGHEST_PIXELS = 640, 560
_FRAME_SIDE_PIXELS = 220
_LARGEST_ZOOM = 4.0
# A strip of one patch is drawn at least this high, and scrolls.
_LEAST_SIDE_PIXELS, _MOST_SIDE_PIXELS = 40, 6000
_FONT_PIXELS = 14
_NUM_NAMED = 12
_MAX_LABEL_CHARS = 24


@dataclass(frozen=True, kw_only=True, slots=True)
class Canvas:
    """A picture of the page; lengths are pixels that the model sees where nothing else is said.

    Attributes:
        uri: Its pixels, as a data URI.
        width: Its width.
        height: Its height.
        shown_width: Width in the page, CSS pixels.
        shown_height: Height in the page, CSS pixels.
        scrolls: Whether it is too long for the page, and scrolls in a frame of its own.
        patch_lines: Path of the lines between raw patches that are one token.
        token_lines: Path of the lines between tokens.
        font: Size of the letters on it.
    """

    uri: str
    width: int
    height: int
    shown_width: int
    shown_height: int
    scrolls: bool
    patch_lines: str
    token_lines: str
    font: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """A box or a point on a canvas, in pixels that the model sees.

    Attributes:
        kind: annotated or redrawn.
        is_point: Whether it is a point, at ``x`` and ``y``.
        is_wrong: Whether it is not what was annotated, or cannot be.
        name: What stands at it; empty where the other one of a pair says it.
    """

    kind: Literal["annotated", "redrawn"]
    is_point: bool
    is_wrong: bool
    x: float
    y: float
    width: float
    height: float
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class BoxRow:
    """A box in the table beside its picture.

    Attributes:
        number: Its number in the sample, from 1.
        box: The box.
        redrawn: Its numbers in pixels of this picture's file.
        verdict: What is found, in words.
        is_wrong: Whether it is not what was annotated, or cannot be.
    """

    number: int
    box: ShownBox
    redrawn: str
    annotated: str
    written: str
    verdict: str
    is_wrong: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureView:
    """A picture with its boxes.

    Attributes:
        picture: The record.
        canvas: Its drawing; None where the file cannot be decoded.
        marks: Boxes and points on it; annotated ones first.
        rows: Its boxes for the table.
        num_hidden_rows: Boxes that the table leaves out.
        alt: What is seen, in words.
    """

    picture: ShownPicture
    canvas: Canvas | None
    marks: tuple[Mark, ...]
    rows: tuple[BoxRow, ...]
    num_hidden_rows: int
    alt: str


@dataclass(frozen=True, kw_only=True, slots=True)
class GridView:
    """A temporal grid of a video.

    Attributes:
        number: Its number, from 0.
        seconds: When it is.
        frames: Its frames: the drawing, and the index and the seconds in words.
    """

    number: int
    seconds: float
    frames: tuple[tuple[Canvas, str], ...]


def view_picture(number: int, picture: ShownPicture, boxes: Sequence[ShownBox]) -> PictureView:
    """A picture of a sample with the boxes that may lie in it.

    Args:
        number: Its number in the sample, from 0.
        picture: The picture.
        boxes: All boxes of the sample.
    """
    own = [(place + 1, box) for place, box in enumerate(boxes) if number in box.images]
    marks: tuple[Mark, ...] = ()
    canvas = None
    if picture.pixels is not None:
        canvas = _canvas(picture, picture.pixels, _picture_zoom(picture.seen_size))
        drawn = [mark for place, box in own for mark in _marks(place, box, number, picture, own)]
        marks = tuple(sorted(drawn, key=lambda mark: mark.kind))
    rows = [_row(place, box, number) for place, box in own]
    if len(rows) > MAX_ROWS:
        wrong = [row for row in rows if row.is_wrong]
        rest = [row for row in rows if not row.is_wrong]
        kept = {row.number for row in [*wrong, *rest][:MAX_ROWS]}
        rows = [row for row in rows if row.number in kept]
    return PictureView(
        picture=picture,
        canvas=canvas,
        marks=marks,
        rows=tuple(rows),
        num_hidden_rows=len(own) - len(rows),
        alt=_alt(number, picture, own),
    )


def view_grids(video: ShownVideo) -> tuple[GridView, ...]:
    """The temporal grids of a video that are shown, with their frames."""
    height, width = video.seen_size
    zoom = _FRAME_SIDE_PIXELS / max(height, width)
    grids: dict[int, list[tuple[Canvas, str]]] = {}
    for frame in video.frames:
        said = f"frame {frame.index:,}, {frame.seconds:.2f} s"
        if frame.is_repeat:
            said += ", repeated"
        grids.setdefault(frame.grid, []).append((_canvas(video, frame.pixels, zoom), said))
    return tuple(
        GridView(number=grid, seconds=video.grid_seconds[grid], frames=tuple(frames))
        for grid, frames in grids.items()
    )


def box_name(number: int, box: ShownBox) -> str:
    """A box in a sentence: its number in its sample, and its label."""
    label = _label(box)
    return f"box {number} ({label})" if label else f"box {number}"


def verdict_text(box: ShownBox) -> str:
    """What is found of a box, in words."""
    overlap = "" if box.iou is None else f"IoU {_iou_text(box.iou)}, "
    words = {
        "agrees": overlap or "as annotated, ",
        "rounded": f"{overlap}rounded to whole numbers, ",
        "differs": f"{overlap}not as annotated, ",
        "missing": "annotated, but not in the token text, ",
        "outside": "outside of the picture, ",
        "inverted": "corners out of order, ",
        "text_only": "only in the text, ",
    }[box.verdict]
    return words.removesuffix(", ")


def _label(box: ShownBox) -> str:
    label = visible_text(box.label)
    return label if len(label) <= _MAX_LABEL_CHARS else label[: _MAX_LABEL_CHARS - 1] + "…"


def _iou_text(iou: float) -> str:
    """Never rounded up to all."""
    return "1" if iou >= 1 - 1e-9 else f"{min(iou, 0.9994):.3f}"


def _canvas(medium: ShownPicture | ShownVideo, pixels: np.ndarray, zoom: float) -> Canvas:
    height, width = medium.seen_size
    patch_lines, token_lines = _lines(medium)
    return Canvas(
        uri=embed(Image.fromarray(pixels), max(pixels.shape), "").uri,
        width=width,
        height=height,
        shown_width=max(1, round(width * zoom)),
        shown_height=max(1, round(height * zoom)),
        scrolls=width * zoom > _WIDEST_PIXELS + 1 or height * zoom > _HIGHEST_PIXELS + 1,
        patch_lines=patch_lines,
        token_lines=token_lines,
        font=round(_FONT_PIXELS / zoom, 1),
    )


def _picture_zoom(size: tuple[int, int]) -> float:
    height, width = size
    fits = min(_WIDEST_PIXELS / width, _HIGHEST_PIXELS / height, _LARGEST_ZOOM)
    least = min(_LEAST_SIDE_PIXELS / min(size), _MOST_SIDE_PIXELS / max(size))
    return max(fits, min(least, _LARGEST_ZOOM))


def _lines(medium: ShownPicture | ShownVideo) -> tuple[str, str]:
    """Lines inside the picture: between patches of one token, and between tokens."""
    height, width = medium.seen_size
    patches: list[str] = []
    tokens: list[str] = []
    _, rows, columns = medium.grid_thw
    for row in range(1, rows):
        line = f"M0 {row * medium.patch_size}H{width}"
        (patches if row % medium.merge else tokens).append(line)
    for column in range(1, columns):
        line = f"M{column * medium.patch_size} 0V{height}"
        (patches if column % medium.merge else tokens).append(line)
    return "".join(patches), "".join(tokens)


def _marks(
    place: int,
    box: ShownBox,
    number: int,
    picture: ShownPicture,
    own: Sequence[tuple[int, ShownBox]],
) -> Iterator[Mark]:
    name = f"{place} {_label(box)}".rstrip() if len(own) <= _NUM_NAMED else str(place)
    is_wrong = box.verdict in WRONG
    if box.annotated is not None:
        said = "" if box.redrawn else name
        yield _mark("annotated", box.annotated, picture, is_wrong, said)
    if box.redrawn:
        numbers = box.redrawn[box.images.index(number)]
        yield _mark("redrawn", numbers, picture, is_wrong, name)


def _mark(
    kind: Literal["annotated", "redrawn"],
    numbers: Sequence[float],
    picture: ShownPicture,
    is_wrong: bool,
    name: str,
) -> Mark:
    (file_height, file_width), (height, width) = picture.file_size, picture.seen_size
    # Far outside is as good as a little outside, and a number that any browser takes.
    xs = sorted(min(max(x * width / file_width, -width), 2 * width) for x in numbers[::2])
    ys = sorted(min(max(y * height / file_height, -height), 2 * height) for y in numbers[1::2])
    return Mark(
        kind=kind,
        is_point=len(numbers) == 2,
        is_wrong=is_wrong,
        x=round(xs[0], 2),
        y=round(ys[0], 2),
        width=round(xs[-1] - xs[0], 2),
        height=round(ys[-1] - ys[0], 2),
        name=name,
    )


def _row(place: int, box: ShownBox, number: int) -> BoxRow:
    redrawn = box.redrawn[box.images.index(number)] if box.redrawn else None
    verdict = verdict_text(box)
    if len(box.images) > 1:
        verdict += f"; the text does not say in which of {len(box.images)} pictures"
    return BoxRow(
        number=place,
        box=box,
        redrawn=_numbers_text(redrawn),
        annotated=_numbers_text(box.annotated),
        written=_numbers_text(box.written),
        verdict=verdict,
        is_wrong=box.verdict in WRONG,
    )


def _numbers_text(numbers: Sequence[float] | None) -> str:
    return "–" if numbers is None else ", ".join(f"{round(number, 1):g}" for number in numbers)


def _alt(number: int, picture: ShownPicture, own: Sequence[tuple[int, ShownBox]]) -> str:
    said = f"Picture {number + 1} as the model sees it, {size_text(picture.seen_size)} pixels"
    if own:
        named = [box_name(place, box) for place, box in own[:_NUM_NAMED]]
        more = f" and {len(own) - len(named)} more" if len(own) > len(named) else ""
        said += f", with {', '.join(named)}{more}"
    return said + "."
