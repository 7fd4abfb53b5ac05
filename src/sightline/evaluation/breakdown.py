"""Predictions by label, by the size of boxes, and by how they could be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sightline.evaluation.metrics.measures import folded, hits_by_label, picture_of
from sightline.evaluation.metrics.precision import average_precision
from sightline.evaluation.prediction import Prediction

_SIZES = ("small", "medium", "large")


def reading_record(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """How answers could be read: as they are, mended, in part, or not at all.

    Args:
        predictions: All of them; those without annotated boxes or points are read as they are.
    """
    states = Counter(_state(one) for one in predictions)
    return {
        "num_answers": len(predictions),
        "as_they_are": states["as_they_are"],
        "mended": states["mended"],
        "partly_lost": states["partly_lost"],
        "unreadable": states["unreadable"],
        "repairs": dict(Counter(name for one in predictions for name in one.repairs).most_common()),
        "lost": dict(Counter(name for one in predictions for name in one.lost).most_common()),
        "cut_at_limit": sum(one.is_cut for one in predictions),
        "unknown_labels": _unknown_labels(predictions),
    }


def _state(one: Prediction) -> str:
    if not one.is_readable:
        return "unreadable"
    if one.lost:
        return "partly_lost"
    return "mended" if one.repairs else "as_they_are"


def _unknown_labels(predictions: Sequence[Prediction]) -> dict[str, int]:
    """Labels of predicted boxes that nothing is annotated with: COCO counts nothing of them."""
    known = {folded(item.label) for one in predictions for item in one.annotated}
    found = Counter(
        folded(item.label)
        for one in predictions
        for item in one.predicted
        if known and folded(item.label) not in known
    )
    return dict(found.most_common())


def box_sizes(
    after: Sequence[Prediction], before: Sequence[Prediction] | None
) -> dict[str, Any] | None:
    """Mean average precision by the size of annotated boxes, as COCO divides them.

    Args:
        after: What is measured.
        before: The same questions, answered before; None where nothing is compared.

    Returns:
        None where no box is annotated.
    """
    found = [_by_size(one) for one in (after, before) if one is not None]
    if found[0] is None:
        return None
    return {"after": found[0], "before": found[1] if len(found) == 2 else None}


def _by_size(predictions: Sequence[Prediction]) -> dict[str, float | None] | None:
    pictures = [picture_of(one) for one in predictions]
    if not any(one.wanted for one in pictures):
        return None
    precision = average_precision(pictures)
    return {size: getattr(precision, size) for size in _SIZES}


def labels_record(
    after: Sequence[Prediction], before: Sequence[Prediction] | None, iou: float
) -> list[dict[str, Any]]:
    """Boxes label by label, the most frequent first.

    Args:
        after: What is measured.
        before: The same questions, answered before; None where nothing is compared.
        iou: Least overlap at which a box counts as found.
    """
    now = _by_label(after, iou)
    then = _by_label(before, iou) if before is not None else {}
    return [
        {"label": label, **now[label], "before": then.get(label) if before is not None else None}
        for label in sorted(now, key=lambda label: (-now[label]["num_annotated"], label))
    ]


def _by_label(predictions: Sequence[Prediction], iou: float) -> dict[str, dict[str, Any]]:
    pictures = [picture_of(one) for one in predictions]
    if not any(one.wanted for one in pictures):
        return {}
    precision = average_precision(pictures)
    counts: dict[str, list[int]] = {label: [0, 0, 0] for label in precision.by_label}
    for one in predictions:
        for label, hits in hits_by_label(one, iou).items():
            if label in counts:
                counts[label] = [a + b for a, b in zip(counts[label], hits, strict=True)]
    return {
        label: {
            "num_annotated": wanted,
            "num_predicted": given,
            "map": precision.by_label[label],
            "map_50": precision.by_label_50[label],
            "precision": hits / given if given else None,
            "recall": hits / wanted if wanted else None,
        }
        for label, (hits, wanted, given) in counts.items()
    }
