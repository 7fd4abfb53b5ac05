"""What the numbers of boxes in the text mean, told from the boxes and their pictures.

A box is inside its picture in the right space, and some boxes of a data set reach its edges. In a
space that is too small boxes lie outside; in one that is too large none comes near an edge.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sightline.config import TextBoxes
from sightline.data.conversation import TextPart
from sightline.data.formats.text_boxes import find_text_boxes
from sightline.data.index import Entry, IndexedFile, entries_of
from sightline.errors import DataError
from sightline.families import BoxSpace, TrainableFamily
from sightline.geometry import Preprocessing, resize_image

TITLES: dict[TextBoxes, str] = {
    "pixels": "pixels of the file",
    "unit": "shares of 0 to 1",
    "thousandths": "0 to 1000",
    "resized": "pixels of the resized picture",
}
_WRITTEN: dict[BoxSpace, TextBoxes] = {"thousandths": "thousandths", "resized_pixels": "resized"}
_MAX_SAMPLES = 500
# Fewer say too little of where the edges are.
_MIN_BOXES = 20
_MIN_INSIDE = 0.99
# Two pixels of a picture of 200: annotations round.
_SLACK = 1.01
# How near to an edge the boxes come that come nearest, in a space that fits.
_MIN_REACH = 0.85
# Spaces whose factors differ by less cannot be told apart, and hardly need to be.
_SAME = 0.03


@dataclass(frozen=True, kw_only=True, slots=True)
class SpaceEvidence:
    """How the boxes of a source look in one space.

    Attributes:
        space: The space.
        inside: Share of the boxes that lie in their picture.
        reach: Where the right and lower edges end that go farthest, as a share of the side: the
            smaller of both axes, over all but the farthest 2 %.
    """

    space: TextBoxes
    inside: float
    reach: float

    @property
    def fits(self) -> bool:
        """Whether the boxes can be in this space."""
        return self.inside >= _MIN_INSIDE and self.reach >= _MIN_REACH


@dataclass(frozen=True, kw_only=True, slots=True)
class BoxSpaces:
    """What can be told of the boxes of a source.

    Attributes:
        num_boxes: Boxes that were looked at.
        evidence: Each space.
        found: The spaces that fit. Two where they are the same within 3 %: pictures that are
            hardly resized. None where the boxes do not say.
    """

    num_boxes: int
    evidence: tuple[SpaceEvidence, ...]
    found: tuple[TextBoxes, ...]


def told_spaces(files: Sequence[IndexedFile], preprocessing: Preprocessing) -> BoxSpaces | None:
    """The space of the boxes in the text of a source; None where there are too few.

    Args:
        files: The index of the source, file by file.
        preprocessing: The run's preprocessing.
    """
    corners: list[tuple[float, float]] = []
    sides: list[tuple[int, int, int, int]] = []
    for entry, file in _looked_at(files):
        height, width = entry.media[0]["height"], entry.media[0]["width"]
        patching, budget = preprocessing.image_patching, preprocessing.image_budget
        down, across = resize_image(height, width, patching, budget)
        for numbers in _boxes_of(entry, file):
            corners.append((max(numbers[::2]), max(numbers[1::2])))
            sides.append((width, height, across, down))
    if len(corners) < _MIN_BOXES:
        return None
    far, size = np.array(corners), np.array(sides, dtype=np.float64)
    units: dict[TextBoxes, np.ndarray] = {
        "pixels": size[:, :2],
        "unit": np.ones_like(far),
        "thousandths": np.full_like(far, 1000.0),
        "resized": size[:, 2:],
    }
    evidence = tuple(_evidence(space, far / unit) for space, unit in units.items())
    found: tuple[TextBoxes, ...] = tuple(one.space for one in evidence if one.fits)
    same = "pixels" in found and "resized" in found
    if same and np.abs(units["resized"] / units["pixels"] - 1).max() > _SAME:
        found = tuple(space for space in found if space == _nearest(evidence))
    return BoxSpaces(num_boxes=len(far), evidence=evidence, found=found)


def warning_of(spaces: BoxSpaces, family: TrainableFamily) -> str | None:
    """What is wrong with the boxes of a source for a family, with the evidence; None for nothing.

    Args:
        spaces: What the boxes say.
        family: The family that is trained.
    """
    wanted = _WRITTEN[family.box_space]
    by_space = {one.space: one for one in spaces.evidence}
    if spaces.found and wanted not in spaces.found:
        best = by_space[spaces.found[0]]
        looks_like = " or ".join(TITLES[space] for space in spaces.found)
        return (
            f"boxes in the text look like {looks_like} ({spaces.num_boxes:,} boxes: "
            f"{best.inside:.0%} inside, up to {best.reach:.0%} of the sides), and {family.title} "
            f"writes {TITLES[wanted]}. Set text_boxes: {best.space}."
        )
    if by_space[wanted].inside < _MIN_INSIDE:
        return (
            f"{1 - by_space[wanted].inside:.0%} of {spaces.num_boxes:,} boxes in the text lie "
            f"outside their picture as {TITLES[wanted]}, which {family.title} writes. Say with "
            "text_boxes what their numbers mean."
        )
    return None


def _evidence(space: TextBoxes, shares: np.ndarray) -> SpaceEvidence:
    reach = np.quantile(shares, 0.98, axis=0).min()
    inside = (shares <= _SLACK).all(axis=1).mean()
    return SpaceEvidence(space=space, inside=float(inside), reach=float(min(reach, 99.0)))


def _nearest(evidence: Sequence[SpaceEvidence]) -> TextBoxes:
    """The space that fits in which the boxes come nearest to the edges."""
    fitting = [one for one in evidence if one.fits]
    return min(fitting, key=lambda one: abs(one.reach - 1)).space


def _looked_at(files: Sequence[IndexedFile]) -> Iterator[tuple[Entry, IndexedFile]]:
    """Usable samples over one picture, spread evenly over the source."""
    num_rows = sum(file.num_rows for file in files)
    stride = max(1, num_rows // _MAX_SAMPLES)
    for file in files:
        for table in file.tables():
            rows = pa.array(range(0, table.num_rows, min(stride, max(table.num_rows, 1))))
            for batch in table.take(rows).to_batches():
                for entry in entries_of(batch):
                    is_usable = entry.what is None and len(entry.media) == 1
                    if is_usable and not entry.media[0]["is_video"]:
                        yield entry, file


def _boxes_of(entry: Entry, file: IndexedFile) -> Iterator[tuple[float, ...]]:
    reader = file.reader
    try:
        origin = entry.origin(reader.rows.file)
        conversation = reader.conversation(origin, entry.offset, entry.num_bytes)
    except DataError:
        # It changed since it was read; training says so.
        return
    for message in conversation.messages:
        for part in message.parts:
            if isinstance(part, TextPart) and message.role != "system":
                yield from find_text_boxes(part.text)
