"""Synthetic pictures and short videos of coloured shapes, with boxes, labels and questions."""

from __future__ import annotations

from sightline.data.shapes.layouts import Layout
from sightline.data.shapes.questions import BoxSpace, Task
from sightline.data.shapes.request import ShapesRequest
from sightline.data.shapes.write import ShapesSummary, write_shapes

__all__ = ["BoxSpace", "Layout", "ShapesRequest", "ShapesSummary", "Task", "write_shapes"]
