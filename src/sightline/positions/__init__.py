"""M-RoPE: from a layout to position ids and rope deltas."""

from sightline.positions.engine import (
    PlacedRows,
    Positions,
    build_position_ids,
    place_layouts,
)
from sightline.positions.guard import refuse_flat, refuse_misplaced
from sightline.positions.items import Image, Text, Video, items_layout, mrope_positions
from sightline.positions.layout import GridThw, Layout, Span, SpanKind, text_span, vision_span
from sightline.positions.reading import placeholder_kinds
from sightline.positions.rule import PositionRule, position_rule
from sightline.positions.sequences import (
    BatchPositions,
    get_rope_index,
    layout_of_ids,
    place_batch,
)

__all__ = [
    "BatchPositions",
    "GridThw",
    "Image",
    "Layout",
    "PlacedRows",
    "PositionRule",
    "Positions",
    "Span",
    "SpanKind",
    "Text",
    "Video",
    "build_position_ids",
    "get_rope_index",
    "items_layout",
    "layout_of_ids",
    "mrope_positions",
    "place_batch",
    "place_layouts",
    "placeholder_kinds",
    "position_rule",
    "refuse_flat",
    "refuse_misplaced",
    "text_span",
    "vision_span",
]
