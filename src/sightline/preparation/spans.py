"""The spans of a sample with what is written on them."""

from __future__ import annotations

from dataclasses import replace

from sightline.positions import Layout
from sightline.records.preview import ShownSpan


def named_spans(layout: Layout) -> tuple[ShownSpan, ...]:
    """The spans in order, text that follows text as one, each with its kind and merged grid.

    Args:
        layout: The layout of a sample.
    """
    named: list[ShownSpan] = []
    start = 0
    for span in layout.spans:
        stop = start + span.num_tokens
        label = span.kind
        if span.merged_grid_thw is not None:
            label += " " + " x ".join(str(side) for side in span.merged_grid_thw)
        if stop > start and span.kind == "text" and named and named[-1].kind == "text":
            named[-1] = replace(named[-1], stop=stop)
        elif stop > start:
            named.append(ShownSpan(kind=span.kind, start=start, stop=stop, label=label))
        start = stop
    return tuple(named)
