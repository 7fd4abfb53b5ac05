"""Positions of a sample in the terminal: numbers where they are few, else a drawing."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sightline.records.preview import ShownSpan

_AXES = ("time", "height", "width")
_BLOCKS = " ▁▂▃▄▅▆▇█"
_BAND_LINES = 3
_MOST_NUMBERS = 16
_SPANS_EACH_END = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawnPositions:
    """A sample as it is drawn.

    Attributes:
        title: What the sample is.
        position_ids: (3, seq) int64. Time, height and width position of every token.
        rope_delta: Maximum plus one, minus the length.
        spans: Its spans in order.
    """

    title: str
    position_ids: np.ndarray
    rope_delta: int
    spans: tuple[ShownSpan, ...]

    @property
    def num_tokens(self) -> int:
        """Length of the sample."""
        return self.position_ids.shape[1]

    @property
    def largest(self) -> int:
        """The largest position on any axis."""
        return int(self.position_ids.max())


def positions_text(drawn: DrawnPositions, width: int = 80) -> str:
    """A sample's positions as text, no line wider than ``width``.

    Args:
        drawn: The sample.
        width: Columns of the terminal.
    """
    vision = sum(span.stop - span.start for span in drawn.spans if span.kind != "text")
    lines = [
        drawn.title,
        f"{drawn.num_tokens} tokens, {vision} of them vision",
        f"largest position {drawn.largest}, where a 1-D model would be at {drawn.num_tokens - 1}; "
        f"rope_delta {drawn.rope_delta}",
        "",
    ]
    few = drawn.num_tokens <= _MOST_NUMBERS
    lines += _numbers(drawn) if few else _bands(drawn, width)
    lines += ["", *_span_table(drawn)]
    return "\n".join(line[:width].rstrip() for line in lines)


def span_ranges(drawn: DrawnPositions, span: ShownSpan) -> list[str]:
    """From where to where a span goes on each axis, the 1-D index last.

    >>> ids = np.array([[0, 1, 1], [0, 1, 1], [0, 1, 2]])
    >>> image = ShownSpan(kind="image", start=1, stop=3, label="image")
    >>> sample = DrawnPositions(title="", position_ids=ids, rope_delta=0, spans=(image,))
    >>> span_ranges(sample, image)
    ['1', '1', '1-2', '1-2']
    """
    axes = drawn.position_ids[:, span.start : span.stop]
    bounds = [(int(axis.min()), int(axis.max())) for axis in axes]
    return [_range(low, high) for low, high in [*bounds, (span.start, span.stop - 1)]]


def shown_tokens(drawn: DrawnPositions, start: int, stop: int, *, most: int) -> np.ndarray:
    """Tokens that are drawn: all, or lowest and highest of every stretch so no tooth is lost.

    Args:
        drawn: The sample.
        start: First token.
        stop: Token after the last one.
        most: About how many are drawn.
    """
    if stop - start <= most:
        return np.arange(start, stop)
    edges = np.linspace(start, stop, most // 6 + 1).astype(int)
    kept = {start, stop - 1}
    for left, right in pairwise(edges.tolist()):
        part = drawn.position_ids[:, left:right]
        kept.update((left + part.argmin(axis=1)).tolist())
        kept.update((left + part.argmax(axis=1)).tolist())
    return np.array(sorted(kept))


def _range(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}-{high}"


def _numbers(drawn: DrawnPositions) -> list[str]:
    """Every position, for a sample of a few tokens."""
    cell = len(str(drawn.num_tokens + drawn.largest)) + 1
    rows = [*zip(_AXES, drawn.position_ids, strict=True), ("1-D", np.arange(drawn.num_tokens))]
    return [f"{name:<7}" + "".join(f"{value:>{cell}}" for value in row) for name, row in rows]


def _bands(drawn: DrawnPositions, width: int) -> list[str]:
    """One band an axis, all on the scale of M-RoPE: the height of a column is its position."""
    columns = min(width - 8, drawn.num_tokens)
    edges = np.linspace(0, drawn.num_tokens, columns + 1).astype(int)
    top = max(drawn.largest, 1)
    lines = []
    rows = [*zip(_AXES, drawn.position_ids, strict=True), ("1-D", np.arange(drawn.num_tokens))]
    for name, row in rows:
        highest = np.maximum.reduceat(row, edges[:-1])
        filled = np.round(highest / top * _BAND_LINES * 8).astype(int)
        for line in range(_BAND_LINES - 1, -1, -1):
            here = np.clip(filled - 8 * line, 0, 8)
            label = name if line == 0 else ""
            bars = "".join(_BLOCKS[level] for level in here)
            if line == _BAND_LINES - 1:  # a 1-D model leaves the scale
                over = highest > top
                bars = "".join("^" if out else bar for out, bar in zip(over, bars, strict=True))
            lines.append(f"{label:<7} {bars}")
    kinds = np.zeros(drawn.num_tokens, dtype=np.int8)
    for span in drawn.spans:
        kinds[span.start : span.stop] = {"text": 0, "image": 1, "video": 2}[span.kind]
    marks = np.maximum.reduceat(kinds, edges[:-1])
    lines.append(f"{'':<7} " + "".join(".iv"[mark] for mark in marks))
    lines.append(f"{'':<7} . text   i image   v video; every band reaches from 0 to {top}")
    if drawn.num_tokens - 1 > top:
        lines.append(f"{'':<7} ^ beyond {top}: positions that only a 1-D model would have")
    return lines


def _span_table(drawn: DrawnPositions) -> list[str]:
    spans = list(drawn.spans)
    head = f"{'span':<28}{'tokens':>13}{'time':>10}{'height':>10}{'width':>10}"
    lines = [head]
    hidden = len(spans) - 2 * _SPANS_EACH_END
    for index, span in enumerate(spans):
        if hidden > 1 and _SPANS_EACH_END <= index < len(spans) - _SPANS_EACH_END:
            if index == _SPANS_EACH_END:
                lines.append(f"... {hidden} more spans ...")
            continue
        time, height, across, tokens = span_ranges(drawn, span)
        label = span.label if len(span.label) <= 27 else "..." + span.label[-24:]
        lines.append(f"{label:<28}{tokens:>13}{time:>10}{height:>10}{across:>10}")
    return lines
