"""The shapes that a sample may have, and how each becomes messages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, assert_never

from sightline.config import BoxLayout, Source, SourceFormat, Template, TextBoxes
from sightline.data.conversation import Conversation
from sightline.data.formats.alpaca import AlpacaShape, parse_alpaca
from sightline.data.formats.base import (
    STRUCTURAL_TOKENS,
    UNREAD_ROW_FIELDS,
    RowContext,
    refuse_unread_fields,
)
from sightline.data.formats.box_layouts import arrange_boxes
from sightline.data.formats.detect import detect_format
from sightline.data.formats.grounding import parse_grounding
from sightline.data.formats.media import MediaFile, MediaFolder, MediaKind
from sightline.data.formats.official import parse_official
from sightline.data.formats.openai import parse_openai
from sightline.data.formats.sharegpt import ShareGptShape, guess_shape, parse_sharegpt
from sightline.data.formats.swift import parse_swift
from sightline.data.formats.text_boxes import lift_text_boxes

__all__ = [
    "STRUCTURAL_TOKENS",
    "AlpacaShape",
    "DeclaredShape",
    "MediaFile",
    "MediaFolder",
    "MediaKind",
    "RowContext",
    "ShareGptShape",
    "declared_shape",
    "detect_format",
    "parse_row",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class DeclaredShape:
    """What a source says of its rows.

    Attributes:
        format: Their shape; None: told from each row.
        sharegpt: Names of ShareGPT rows; None: the usual ones.
        alpaca: Names of Alpaca rows; None: the usual ones.
        template: The words around boxes.
        text_boxes: What the numbers of boxes in the text mean; None: they are left as text.
        box_layout: What the four numbers of a box are; annotation files have their own.
        are_boxes_stored: Whether boxes are on pixels as they are stored, before EXIF turns them.
    """

    format: SourceFormat | None = None
    sharegpt: ShareGptShape | None = None
    alpaca: AlpacaShape | None = None
    template: Template = field(default_factory=Template)
    text_boxes: TextBoxes | None = None
    box_layout: BoxLayout = "xyxy"
    are_boxes_stored: bool = False


def declared_shape(source: Source) -> DeclaredShape:
    """What a source declares.

    What ``columns`` or ``tags`` leaves out does not exist; the usual names hold only where the
    whole of it is missing. This is LLaMA-Factory's rule.
    """
    others: dict[str, Any] = {
        "template": source.template,
        "text_boxes": source.text_boxes,
        "box_layout": source.box_layout,
        "are_boxes_stored": source.box_orientation == "stored",
    }
    if source.columns is None and source.tags is None:
        return DeclaredShape(format=source.format, **others)
    columns = {} if source.columns is None else source.columns.model_dump()
    tags = {} if source.tags is None else source.tags.model_dump()
    if source.format == "alpaca":
        names = {name: columns.get(name) for name in AlpacaShape.__dataclass_fields__}
        shape = AlpacaShape(**names) if columns else AlpacaShape()
        return DeclaredShape(format="alpaca", alpaca=shape, **others)
    own = ("messages", "images", "videos", "system")
    shape = ShareGptShape(**{name: columns[name] for name in own if name in columns}, **tags)
    return DeclaredShape(format="sharegpt", sharegpt=shape, **others)


def parse_row(
    row: object,
    context: RowContext,
    shape: DeclaredShape = DeclaredShape(),
    found: SourceFormat | None = None,
) -> Conversation:
    """A row of a data file as a conversation.

    Args:
        row: What stands in the file.
        context: Where it stands, and what it is checked against.
        shape: What the source declares.
        found: What ``detect_format`` says of the row, where that is known.

    Raises:
        DataError: The row is wrong; the message names file, line and field.
    """
    declared = shape.format or found
    if not isinstance(row, dict) or declared is None:
        declared = detect_format(row, origin=context.origin)
    # detect_format refuses everything else.
    assert isinstance(row, dict)
    refuse_unread_fields(row, UNREAD_ROW_FIELDS, context)
    if declared != "swift" and declared not in ("coco", "yolo", "voc"):
        refuse_unread_fields(row, {"objects": "boxes, which are ms-swift's"}, context)
    if declared == "sharegpt":
        messages = parse_sharegpt(row, shape.sharegpt or guess_shape(row), context)
    elif declared == "alpaca":
        messages = parse_alpaca(row, shape.alpaca or AlpacaShape(), context)
    elif declared == "official":
        messages = parse_official(row, context)
    elif declared == "openai":
        messages = parse_openai(row, context)
    elif declared == "swift":
        messages = parse_swift(row, context)
    elif declared in ("coco", "yolo", "voc"):
        messages = parse_grounding(row, shape.template, context)
    else:
        assert_never(declared)
    if shape.text_boxes is not None:
        messages = lift_text_boxes(messages, shape.text_boxes, context)
    layout = "xyxy" if declared in ("coco", "yolo", "voc") else shape.box_layout
    messages = arrange_boxes(messages, layout, are_stored=shape.are_boxes_stored)
    return Conversation(messages=messages, origin=context.origin)
