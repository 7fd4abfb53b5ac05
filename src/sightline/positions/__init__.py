"""M-RoPE: from a layout to position ids and rope deltas."""

from sightline.positions.engine import Positions, build_position_ids
from sightline.positions.layout import GridThw, Layout, Span, SpanKind, text_span, vision_span
from sightline.positions.sequences import BatchPositions, PositionRule, layout_of_ids, place_batch

__all__ = [
    "BatchPositions",
    "GridThw",
    "Layout",
    "PositionRule",
    "Positions",
    "Span",
    "SpanKind",
    "build_position_ids",
    "layout_of_ids",
    "place_batch",
    "text_span",
    "vision_span",
]
