"""Positions of a previewed sample: three rows over its tokens, and the runs they are made of."""

from __future__ import annotations

from dataclasses import dataclass

from sightline.records.preview import ShownSample
from sightline.report.positions import DrawnPositions, shown_tokens, span_ranges

# The rows stretch with the page, so that their units mean nothing.
WIDTH, HEIGHT = 1000, 100
_MOST_POINTS = 1200
_SPANS_EACH_END = 8
_AXES = (("t", "time"), ("h", "height"), ("w", "width"))


@dataclass(frozen=True, kw_only=True, slots=True)
class AxisView:
    """One axis.

    Attributes:
        letter: t, h or w.
        name: What it is called.
        points: Of the polyline, in a field of 1000 x 100.
    """

    letter: str
    name: str
    points: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Band:
    """A run of placeholders, from ``x`` on, in a field of 1000 x 100."""

    kind: str
    x: float
    width: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SpanRow:
    """A run of tokens in the table; ranges in words. ``label`` alone where runs are left out."""

    label: str
    tokens: str
    time: str
    height: str
    width: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PositionsView:
    """Positions of a sample.

    Attributes:
        axes: Time, height and width.
        bands: Its pictures and videos.
        spans: The runs it is made of.
        num_tokens: Its length.
        largest: The largest position.
        rope_delta: Largest position plus one, minus the length.
    """

    axes: tuple[AxisView, ...]
    bands: tuple[Band, ...]
    spans: tuple[SpanRow, ...]
    num_tokens: int
    largest: int
    rope_delta: int


def view_positions(sample: ShownSample) -> PositionsView:
    """The positions of a sample for the page."""
    drawn = DrawnPositions(
        title=sample.origin,
        position_ids=sample.position_ids,
        rope_delta=sample.rope_delta,
        spans=sample.spans,
    )
    tokens = shown_tokens(drawn, 0, drawn.num_tokens, most=_MOST_POINTS)
    across, largest = WIDTH / max(drawn.num_tokens - 1, 1), max(drawn.largest, 1)
    axes = tuple(
        AxisView(
            letter=letter,
            name=name,
            points=" ".join(
                f"{token * across:.1f},{HEIGHT * (1 - int(row[token]) / largest):.1f}"
                for token in tokens.tolist()
            ),
        )
        for (letter, name), row in zip(_AXES, drawn.position_ids, strict=True)
    )
    bands = tuple(
        Band(
            kind=span.kind,
            x=round((span.start - 0.5) * across, 1),
            width=round((span.stop - span.start) * across, 1),
        )
        for span in drawn.spans
        if span.kind != "text"
    )
    return PositionsView(
        axes=axes,
        bands=bands,
        spans=_rows(drawn),
        num_tokens=drawn.num_tokens,
        largest=drawn.largest,
        rope_delta=drawn.rope_delta,
    )


def _rows(drawn: DrawnPositions) -> tuple[SpanRow, ...]:
    rows = []
    hidden = len(drawn.spans) - 2 * _SPANS_EACH_END
    for index, span in enumerate(drawn.spans):
        if hidden > 1 and _SPANS_EACH_END <= index < len(drawn.spans) - _SPANS_EACH_END:
            if index == _SPANS_EACH_END:
                label = f"… {hidden:,} runs more …"
                rows.append(SpanRow(label=label, tokens="", time="", height="", width=""))
            continue
        time, height, width, tokens = span_ranges(drawn, span)
        label = span.label.replace(" x ", " × ")
        rows.append(SpanRow(label=label, tokens=tokens, time=time, height=height, width=width))
    return tuple(rows)
