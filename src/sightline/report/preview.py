"""The page of a preview: samples as the model will see them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sightline.records import write_text
from sightline.records.preview import WRONG, Preview, ShownFit, ShownSample, ShownVideo
from sightline.report.html import render_template
from sightline.report.preview_pictures import (
    GridView,
    PictureView,
    box_name,
    verdict_text,
    view_grids,
    view_picture,
)
from sightline.report.preview_positions import PositionsView, view_positions
from sightline.report.preview_text import TurnView, view_turns
from sightline.report.quantities import share_text
from sightline.report.visible import visible_text

_MAX_WRONG = 12
_BOX_SPACES = {
    "thousandths": "0 to 1000 of each side",
    "resized_pixels": "pixels of the picture as the model sees it",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoView:
    """A video with some of its temporal grids."""

    video: ShownVideo
    grids: tuple[GridView, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleView:
    """A sample on the page.

    Attributes:
        key: Unique in its page, for references inside it.
        sample: The record.
        title: File and line without the folder.
        place: File and line in full.
        fit: What fitting did, in words.
        pictures: Its pictures.
        videos: Its videos.
        turns: Its text.
        positions: Its positions.
        num_unplaced_boxes: Boxes of turns that no picture of the page belongs to.
    """

    key: str
    sample: ShownSample
    title: str
    place: str
    fit: str
    pictures: tuple[PictureView, ...]
    videos: tuple[VideoView, ...]
    turns: tuple[TurnView, ...]
    positions: PositionsView
    num_unplaced_boxes: int


def write_preview(preview: Preview, page: Path) -> None:
    """Write the page of a preview, one self-contained HTML file, whole or not at all.

    Args:
        preview: The samples.
        page: Where it goes.

    Raises:
        RunError: The file system refuses.
    """
    write_text(page, preview_html(preview))


def preview_html(preview: Preview) -> str:
    """The page of a preview as HTML."""
    return render_template(
        "preview.html.j2",
        {
            "preview": preview,
            "samples": [_view(sample) for sample in preview.samples],
            "wrong": wrong_boxes(preview)[:_MAX_WRONG],
            "num_wrong": sum(len(sample.wrong_boxes) for sample in preview.samples),
            "num_boxes": sum(len(sample.boxes) for sample in preview.samples),
            "box_space": _BOX_SPACES[preview.box_space],
            "model": visible_text(preview.model),
            "num_left_out": preview.fates["dropped"] + preview.fates["quarantined"],
            "left_out": [
                {
                    "origin": visible_text(item.origin),
                    "fate": item.fate,
                    "field": visible_text(item.field or ""),
                    "reason": visible_text(item.reason),
                }
                for item in preview.left_out
            ],
        },
    )


def wrong_boxes(preview: Preview) -> list[tuple[int, str]]:
    """Boxes that are not as annotated, or impossible: number of the sample, and what is found.

    Args:
        preview: The samples.
    """
    return [
        (sample.number, f"{box_name(place, box)}: {verdict_text(box)}")
        for sample in preview.samples
        for place, box in enumerate(sample.boxes, start=1)
        if box.verdict in WRONG
    ]


def fit_text(fit: ShownFit) -> str:
    """What fitting did to a conversation, in the words of the ledger."""
    if fit.fate == "kept":
        return "kept as it is"
    said = []
    if fit.piece is not None:
        said.append(f"split: piece {fit.piece + 1:,} of {fit.num_pieces:,}")
    elif "split" in fit.policies:
        said.append("split: the other pieces have no trained answer")
    if "trim" in fit.policies and fit.turns is not None and fit.turns[0]:
        said.append(f"trim: begins at turn {fit.turns[0] + 1:,}")
    if fit.shrunk_to is not None:
        said.append(f"shrink: {share_text(fit.shrunk_to)} of the pixels")
    return "fitted, " + ", ".join(said)


def _view(sample: ShownSample) -> SampleView:
    shown = range(len(sample.pictures))
    return SampleView(
        key=f"s{sample.number}",
        sample=sample,
        title=visible_text(sample.title),
        place=visible_text(sample.origin),
        fit=fit_text(sample.fit),
        pictures=tuple(
            view_picture(number, picture, sample.boxes)
            for number, picture in enumerate(sample.pictures)
        ),
        videos=tuple(VideoView(video=video, grids=view_grids(video)) for video in sample.videos),
        turns=view_turns(sample.turns),
        positions=view_positions(sample),
        num_unplaced_boxes=sum(
            not any(number in shown for number in box.images) for box in sample.boxes
        ),
    )
