"""The boxes of a source as numbers beside the sizes of their pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sightline.config import TextBoxes
from sightline.data.conversation import BoxPart, Conversation, ImagePart, TextPart
from sightline.data.formats.text_boxes import find_text_boxes
from sightline.data.images import exif_orientation, probe_image_size
from sightline.data.index import Entry, IndexedFile, entries_of
from sightline.errors import DataError
from sightline.geometry import Preprocessing, resize_image

_MAX_SAMPLES = 500
# Fewer say too little of where the edges are.
_MIN_BOXES = 20
# Samples that were refused for their boxes are the ones that say what is wrong with them.
_REFUSED_FOR_BOXES = ("box.outside", "box.order")
_FIRST_SIDEWAYS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class BoxNumbers:
    """Boxes of a source.

    Attributes:
        numbers: (num_boxes, 4) as the source has them; a point stands twice.
        is_point: (num_boxes,) bool.
        sides: (num_boxes, 2) Width and height of the picture as it is shown, pixels.
        resized: (num_boxes, 2) Width and height at the run's own limits, pixels.
        sideways: (num_boxes,) bool. Whether EXIF turns the picture by a quarter.
        declared: The space that the source declares; None for boxes that are left as text.
        are_stored: Whether it declares them to be on pixels as they are stored.
    """

    numbers: np.ndarray
    is_point: np.ndarray
    sides: np.ndarray
    resized: np.ndarray
    sideways: np.ndarray
    declared: TextBoxes | None
    are_stored: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    numbers: tuple[float, ...]
    image: int
    declared: TextBoxes | None
    is_stored: bool


def box_numbers(files: Sequence[IndexedFile], preprocessing: Preprocessing) -> BoxNumbers | None:
    """The boxes of up to 500 samples of a source; None where they are too few to say anything.

    Args:
        files: The index of the source, file by file.
        preprocessing: The run's preprocessing.
    """
    found: list[_Found] = []
    sizes: list[tuple[int, int, int, int, bool]] = []
    for entry, file in _looked_at(files):
        conversation = _conversation(entry, file)
        images = list(conversation.images()) if conversation else []
        boxes = list(_boxes_of(conversation, len(images))) if conversation else []
        seen: dict[int, tuple[int, int, int, int, bool]] = {}
        for box in boxes:
            if box.image not in seen:
                seen[box.image] = _size(images[box.image], entry, box.image, preprocessing)
            found.append(box)
            sizes.append(seen[box.image])
    # A source that has both leaves the others as text on purpose.
    first = next((box for box in found if box.declared is not None), None)
    declared = first.declared if first is not None else None
    kept = [place for place, box in enumerate(found) if box.declared == declared]
    if len(kept) < _MIN_BOXES:
        return None
    table = np.array(sizes, dtype=np.float64)[kept]
    chosen = [found[place] for place in kept]
    return BoxNumbers(
        numbers=np.array([box.numbers * (4 // len(box.numbers)) for box in chosen]),
        is_point=np.array([len(box.numbers) == 2 for box in chosen]),
        sides=table[:, :2],
        resized=table[:, 2:4],
        sideways=table[:, 4].astype(bool),
        declared=declared,
        are_stored=chosen[0].is_stored,
    )


def _looked_at(files: Sequence[IndexedFile]) -> Iterator[tuple[Entry, IndexedFile]]:
    """Samples with pictures and no video, spread evenly over the source."""
    num_rows = sum(file.num_rows for file in files)
    stride = max(1, num_rows // _MAX_SAMPLES)
    for file in files:
        for table in file.tables():
            rows = pa.array(range(0, table.num_rows, min(stride, max(table.num_rows, 1))))
            for batch in table.take(rows).to_batches():
                for entry in entries_of(batch):
                    is_image = entry.media and not any(one["is_video"] for one in entry.media)
                    if entry.code in _REFUSED_FOR_BOXES or (entry.what is None and is_image):
                        yield entry, file


def _conversation(entry: Entry, file: IndexedFile) -> Conversation | None:
    reader = file.reader
    try:
        origin = entry.origin(reader.rows.file)
        return reader.conversation(origin, entry.offset, entry.num_bytes)
    except DataError:
        # It changed since it was read; training says so.
        return None


def _boxes_of(conversation: Conversation, num_images: int) -> Iterator[_Found]:
    for message in conversation.messages:
        for part in message.parts:
            if isinstance(part, BoxPart) and part.image < num_images:
                yield _Found(
                    numbers=part.numbers,
                    image=part.image,
                    declared=part.space,
                    is_stored=part.is_stored,
                )
            elif isinstance(part, TextPart) and message.role != "system" and num_images == 1:
                for numbers in find_text_boxes(part.text):
                    yield _Found(numbers=numbers, image=0, declared=None, is_stored=False)


def _size(
    part: ImagePart, entry: Entry, place: int, preprocessing: Preprocessing
) -> tuple[int, int, int, int, bool]:
    """Width and height as shown, width and height resized, and whether EXIF turns it sideways."""
    if entry.what is None:
        height, width = entry.media[place]["height"], entry.media[place]["width"]
    else:
        height, width = probe_image_size(part.path, field=part.field, content=part.content)
    patching, budget = preprocessing.image_patching, preprocessing.image_budget
    down, across = resize_image(height, width, patching, budget)
    orientation = exif_orientation(part.path, field=part.field, content=part.content)
    return width, height, across, down, orientation >= _FIRST_SIDEWAYS
