"""Answers to held-out data as the page shows them: measures, and samples before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.report.evaluation import reading_lines, short_names, span_text, value_text
from sightline.report.overlaps import is_right, mean_overlap
from sightline.report.samples import SampleView, view_sample

MAX_DRAWN = 40
"""Held-out samples in a page: the worst half, and the rest evenly over the others."""

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOutView:
    """Held-out samples with their answers.

    Attributes:
        samples: Those that are drawn, the worst first.
        num_samples: All that were answered.
        num_right: Answers after training that are right.
        num_right_before: Answers of the base that are; None where it was not asked.
    """

    samples: tuple[SampleView, ...]
    num_samples: int
    num_right: int
    num_right_before: int | None

    @property
    def num_left_out(self) -> int:
        """Samples that are not drawn."""
        return self.num_samples - len(self.samples)


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasureRow:
    """A line of the table of measures, as text; empty where nothing is compared."""

    title: str
    num: int
    before: str
    before_span: str
    after: str
    after_span: str
    change: str
    change_span: str
    kind: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitTable:
    """Measures of each part of the data: its source, or its label."""

    names: tuple[str, ...]
    rows: tuple[tuple[str, int, tuple[str, ...]], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuresView:
    """What ``evaluation.json`` says.

    Attributes:
        rows: One a measure.
        compares: Whether the base was measured too.
        num_predictions: Answers.
        confidence: Of the intervals, percent.
        least: Least overlap of a box that counts as found.
        sources: By source, where there are several.
        labels: By label, where there are several.
        reading: How the answers could be read.
        reading_before: The same of the base; empty where it was not asked.
    """

    rows: tuple[MeasureRow, ...]
    compares: bool
    num_predictions: int
    confidence: int
    least: float
    sources: SplitTable | None
    labels: SplitTable | None
    reading: tuple[str, ...]
    reading_before: tuple[str, ...]


def view_measures(record: Mapping[str, Any]) -> MeasuresView:
    """The tables of an evaluation.

    Args:
        record: The content of ``evaluation.json``.
    """
    settings, before = record["settings"], record["reading_before"]
    return MeasuresView(
        rows=tuple(_measure(one) for one in record["metrics"]),
        compares=before is not None,
        num_predictions=record["num_predictions"],
        confidence=round(100 * settings["confidence"]),
        least=settings["iou"],
        sources=_sources(record) if len(record["sources"]) > 1 else None,
        labels=_labels(record) if len(record["labels"]) > 1 else None,
        reading=tuple(reading_lines(record["reading"])),
        reading_before=tuple(reading_lines(before)) if before is not None else (),
    )


def _measure(one: Mapping[str, Any]) -> MeasureRow:
    before, change = one["before"], one["change"]
    return MeasureRow(
        title=one["title"],
        num=one["num"],
        before=value_text(before["value"]) if before else "",
        before_span=span_text(before) if before else "",
        after=value_text(one["value"]),
        after_span=span_text(one),
        change=value_text(change["value"], sign=True) if change else "",
        change_span=span_text(change, sign=True) if change else "",
        kind=_kind(change) if change else "",
    )


def _kind(change: Mapping[str, Any]) -> str:
    """``good`` or ``bad`` where the interval leaves no doubt: every measure is better high."""
    if change["low"] is None:
        return ""
    return "good" if change["low"] > 0 else "bad" if change["high"] < 0 else ""


def _sources(record: Mapping[str, Any]) -> SplitTable:
    metrics = record["metrics"]
    names = short_names([one["source"] for one in record["sources"]])
    return SplitTable(
        names=tuple(one["title"] for one in metrics),
        rows=tuple(
            (
                name,
                one["num"],
                tuple(_both(one["metrics"].get(metric["name"])) for metric in metrics),
            )
            for name, one in zip(names, record["sources"], strict=True)
        ),
    )


def _labels(record: Mapping[str, Any]) -> SplitTable:
    keys = ("map", "map_50", "precision", "recall")
    rows = []
    for one in record["labels"]:
        before = one["before"]
        values = (
            _both({"value": one[key], "before": before[key] if before else None}) for key in keys
        )
        rows.append((one["label"] or "–", one["num_annotated"], tuple(values)))
    return SplitTable(names=("mAP", "mAP 0.50", "precision", "recall"), rows=tuple(rows))


def _both(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return "–"
    now = value_text(value["value"])
    before = value.get("before")
    return now if before is None else f"{value_text(before)} → {now}"


def view_held_out(
    after: Sequence[Row], before: Sequence[Row], *, root: Path, limit: int = MAX_DRAWN
) -> HeldOutView | None:
    """Draw held-out samples; None where there are no answers.

    Args:
        after: Lines of predictions of the trained model.
        before: Those of its base; empty where it was not asked.
        root: The folder to which relative paths of media refer.
        limit: How many are drawn at most.
    """
    if not after:
        return None
    known = {_key(row): row for row in before}
    order = sorted(range(len(after)), key=lambda place: _score(after[place]))
    samples = []
    for place in _chosen(order, limit):
        row = after[place]
        earlier = known.get(_key(row))
        titles = ["After training"] + (["Before, the base"] if earlier else [])
        rows = [_as_sample(one) for one in (row, earlier) if one is not None]
        samples.append(
            view_sample(
                rows,
                titles,
                root=root,
                key=f"h{place}",
                place=place,
                number=row.get("sample", place),
            )
        )
    return HeldOutView(
        samples=tuple(samples),
        num_samples=len(after),
        num_right=sum(_is_right(row) for row in after),
        num_right_before=sum(_is_right(row) for row in before) if before else None,
    )


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in ("file", "line", "row", "place", "turn"))


def _chosen(order: Sequence[int], limit: int) -> list[int]:
    """The worst half of what fits, and the rest evenly from the others; the worst first."""
    if len(order) <= limit:
        return list(order)
    worst, rest = order[: limit // 2], order[limit // 2 :]
    num = limit - len(worst)
    return [*worst, *(rest[round(place * (len(rest) - 1) / (num - 1))] for place in range(num))]


def _score(row: Row) -> tuple[float, float]:
    """What orders samples: overlap of the boxes, then whether the answer is right."""
    overlap = mean_overlap(row["annotated"], row["predicted"])
    right = float(_is_right(row))
    return (right if overlap is None else overlap, right)


def _is_right(row: Row) -> bool:
    """With boxes: each found, and none too many. Without: the annotated text."""
    if any("box" in one for one in row["annotated"]):
        return is_right(row["annotated"], row["predicted"])
    return row["answer"].strip() == row["annotation"].strip()


def _as_sample(row: Row) -> dict[str, Any]:
    return {
        "file": row.get("file") or row.get("source") or "",
        "line": row.get("line"),
        "question": row.get("prompt", ""),
        "annotation": row["annotation"],
        "answer": row["answer"],
        "equal": row["answer"] == row["annotation"],
        "right": _is_right(row),
        "media": row.get("media", ()),
        "annotated_boxes": row["annotated"],
        "predicted_boxes": row["predicted"],
    }
