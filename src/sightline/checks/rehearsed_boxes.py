"""Boxes of a rehearsal: those of the data, those in the tokens, and those in the answers.

A box is annotated in one space, written in another, and drawn in a third. The annotation is taken
from the row before it became text, so that a wrong space anywhere on the way shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sightline.checks.box_spaces import told_spaces, warning_of
from sightline.checks.joints import Joint
from sightline.data import PlannedImage
from sightline.families import BoxSpace
from sightline.model import Checkpoint
from sightline.preparation import PlannedData
from sightline.preparation.preview.boxes import MIN_IOU, compare_boxes, iou_of
from sightline.preparation.preview.turns import TurnReader
from sightline.records.preview import ShownBox

_WRONG = {
    "missing": "not in the text of the answer",
    "inverted": "its corners out of order",
    "outside": "outside its picture",
    "differs": "elsewhere than annotated",
}
_MAX_SHOWN = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenBoxes:
    """The boxes of the rehearsed samples, read back from their token ids.

    Attributes:
        num_boxes: Boxes and points.
        smallest_iou: Smallest overlap of one with the annotation in its row; None where the rows
            have boxes as text alone.
        faults: What is wrong, with the sample.
        warnings: What all boxes of a source say of their space.
    """

    num_boxes: int
    smallest_iou: float | None
    faults: tuple[str, ...]
    warnings: tuple[str, ...]


def written_boxes(
    checkpoint: Checkpoint, rehearsed: PlannedData, everything: PlannedData
) -> WrittenBoxes:
    """Read the boxes of the rehearsed samples back from their tokens, and look at all sources.

    Args:
        checkpoint: The opened checkpoint.
        rehearsed: The samples of the rehearsal.
        everything: The training data of the run.
    """
    reader = TurnReader(checkpoint.processor.tokenizer, checkpoint.family.tokens)
    faults: list[str] = []
    found: list[ShownBox] = []
    for number in range(len(rehearsed.samples)):
        source = rehearsed.samples.conversation(rehearsed.samples.item(number))
        sample = rehearsed.samples[number]
        boxes = compare_boxes(
            source,
            reader.read(sample),
            sample.images,
            checkpoint.family.box_space,
            checkpoint.preprocessing,
        )
        found += boxes
        units = [_units(image, checkpoint.family.box_space) for image in sample.images]
        faults += [_fault(str(source.origin), box, units) for box in boxes if box.verdict in _WRONG]
    return WrittenBoxes(
        num_boxes=len(found),
        smallest_iou=min((box.iou for box in found if box.iou is not None), default=None),
        faults=tuple(faults),
        warnings=tuple(_warnings(checkpoint, everything)),
    )


def boxes_joint(written: WrittenBoxes, predictions: Mapping[str, Any] | None) -> Joint:
    """Whether boxes are where the annotation has them.

    Args:
        written: The boxes in the tokens.
        predictions: ``predictions.json``; None where nothing was answered.
    """
    overlaps = list(_overlaps(predictions["samples"])) if predictions else []
    answered = [
        f"{where}: a box of the answer overlaps the annotated one by {overlap:.3g}"
        for where, overlap in overlaps
        if overlap < MIN_IOU
    ]
    faults = [*written.faults, *answered, *written.warnings]
    if not written.num_boxes and not faults:
        return Joint(id="boxes", state="info", seen="no boxes in these samples")
    told = [f"{written.num_boxes} in the tokens"]
    if written.smallest_iou is not None:
        told[0] += f", IoU with the rows {written.smallest_iou:.3g} at least"
    if overlaps:
        smallest = min(overlap for _, overlap in overlaps)
        told.append(f"{len(overlaps)} in the answers, IoU {smallest:.3g} at least")
    if not faults:
        return Joint(id="boxes", state="ok", seen="; ".join(told))
    return Joint(
        id="boxes",
        state="failed",
        seen=f"{'; '.join(told)}; {len(written.faults) + len(answered)} wrong",
        where="; ".join(faults[:_MAX_SHOWN]),
        advice=written.warnings[-1]
        if written.warnings
        else "Say what their numbers mean with text_boxes, and look at them with sightline preview."
        if written.faults
        else "The model does not write the boxes that it was taught: see the joints above.",
    )


def _fault(where: str, box: ShownBox, units: Sequence[str]) -> str:
    numbers = box.written if box.written is not None else box.annotated
    shown = ", ".join(f"{number:g}" for number in numbers or ())
    of = " and ".join(dict.fromkeys(units[image] for image in box.images))
    return f"{where}: [{shown}] is {_WRONG[box.verdict]} ({of})"


def _units(image: PlannedImage, space: BoxSpace) -> str:
    """What the sides of a picture are in the family's space, in words."""
    height, width = image.resized
    return "0 to 1000" if space == "thousandths" else f"{width} x {height} as the model sees it"


def _warnings(checkpoint: Checkpoint, data: PlannedData) -> Iterator[str]:
    for number, source in enumerate(data.sources):
        files = [
            file for file, of in zip(data.files, data.source_of_file, strict=True) if of == number
        ]
        spaces = told_spaces(files, checkpoint.preprocessing)
        warning = warning_of(spaces, checkpoint.family) if spaces is not None else None
        if warning is not None:
            yield f"{source.title}: {warning}"


def _overlaps(samples: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, float]]:
    """Overlap of every annotated box with the one that the answer has in its place."""
    for sample in samples:
        annotated, predicted = sample["annotated_boxes"], sample["predicted_boxes"]
        where = f"{sample['file']}:{sample['line']}"
        for number, box in enumerate(annotated):
            other = predicted[number] if number < len(predicted) else None
            overlap = iou_of(tuple(box["box"]), tuple(other["box"])) if other else None
            # Two boxes without an area are the same one only where their numbers are.
            if overlap is None:
                overlap = float(other is not None and other["box"] == box["box"])
            yield where, overlap
