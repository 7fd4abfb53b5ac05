"""What the numbers of boxes mean, told from the boxes and their pictures.

A box is inside its picture in the right space, and some boxes of a data set reach its edges. In a
space that is too small boxes lie outside; in one that is too large none comes near an edge. Corners
that are out of order, boxes outside a picture that was turned, and boxes that end at the same place
on the short side of every picture have each their own cause. Not told apart this way are x and y
that are swapped in spaces where both sides are equally long: shares and thousandths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sightline.checks.box_numbers import BoxNumbers, box_numbers
from sightline.config import BoxLayout, TextBoxes
from sightline.data.index import IndexedFile
from sightline.families import BoxSpace, TrainableFamily
from sightline.geometry import Preprocessing

TITLES: dict[TextBoxes, str] = {
    "pixels": "pixels of the file",
    "unit": "shares of 0 to 1",
    "thousandths": "0 to 1000",
    "resized": "pixels of the resized picture",
    "longest": "one factor for both axes, 0 to 1000 of the longer side",
}
LAYOUTS: dict[BoxLayout, str] = {
    "xyxy": "x1, y1, x2, y2",
    "yxyx": "y1, x1, y2, x2",
    "xywh": "x, y, width, height",
}
_WRITTEN: dict[BoxSpace, TextBoxes] = {"thousandths": "thousandths", "resized_pixels": "resized"}
_MIN_INSIDE = 0.99
# Two pixels of a picture of 200: annotations round.
_SLACK = 1.01
# How near to an edge the boxes come that come nearest, in a space that fits.
_MIN_REACH = 0.85
# Spaces whose factors differ by less cannot be told apart, and hardly need to be.
_SAME = 0.03
# Corners out of order by mistake are few; as x, y, width, height they are many.
_FEW_ORDERED = 0.9
# Pictures on which one factor and two differ enough to be seen, and how many boxes they must have.
_MIN_ASPECT = 1.15
_MIN_ON_LONG = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class SpaceEvidence:
    """How the boxes of a source look in one space.

    Attributes:
        space: The space.
        layout: What the four numbers are taken for.
        inside: Share of the boxes that lie in their picture.
        ordered: Share of the boxes whose first corner is the upper left one.
        reach: Where the right and lower edges end that go farthest, as a share of the side: the
            smaller of both axes, over all but the farthest 2 %.
    """

    space: TextBoxes
    layout: BoxLayout = "xyxy"
    inside: float
    ordered: float = 1.0
    reach: float

    @property
    def fits(self) -> bool:
        """Whether the boxes can be in this space."""
        is_sound = self.inside >= _MIN_INSIDE and self.ordered >= _MIN_INSIDE
        return is_sound and self.reach >= _MIN_REACH


@dataclass(frozen=True, kw_only=True, slots=True)
class BoxSpaces:
    """What can be told of the boxes of a source.

    Attributes:
        num_boxes: Boxes that were looked at.
        declared: The space that the source declares; None for boxes that are left as text.
        evidence: Each space, with the numbers as the source says they are laid out.
        found: The spaces that fit. Two where they are the same within 3 %: pictures that are
            hardly resized. None where the boxes do not say.
        relaid: Another layout that fits where no space does; None where there is none.
        stored: Whether boxes outside a picture that EXIF turns are inside its stored pixels.
    """

    num_boxes: int
    declared: TextBoxes | None
    evidence: tuple[SpaceEvidence, ...]
    found: tuple[TextBoxes, ...]
    relaid: SpaceEvidence | None
    stored: bool


def told_spaces(files: Sequence[IndexedFile], preprocessing: Preprocessing) -> BoxSpaces | None:
    """The space of the boxes of a source; None where there are too few.

    Args:
        files: The index of the source, file by file.
        preprocessing: The run's preprocessing.
    """
    boxes = box_numbers(files, preprocessing)
    if boxes is None:
        return None
    units = _units(boxes, stored=boxes.are_stored)
    evidence = tuple(_evidence(boxes, space, units[space]) for space in units)
    found: tuple[TextBoxes, ...] = tuple(one.space for one in evidence if one.fits)
    if "longest" in found:
        others: tuple[TextBoxes, ...] = tuple(space for space in found if space != "longest")
        found = ("longest",) if _is_one_factor(boxes, units["longest"], others) else others
    same = "pixels" in found and "resized" in found
    if same and np.abs(units["resized"] / units["pixels"] - 1).max() > _SAME:
        nearest = _nearest([one for one in evidence if one.space in found])
        found = (nearest,)
    stored = not found and not boxes.are_stored and _are_on_stored_pixels(boxes)
    return BoxSpaces(
        num_boxes=len(boxes.numbers),
        declared=boxes.declared,
        evidence=evidence,
        found=found,
        relaid=None if found or stored else _relaid(boxes, units, evidence),
        stored=stored,
    )


def warning_of(spaces: BoxSpaces, family: TrainableFamily) -> str | None:
    """What is wrong with the boxes of a source for a family, with the evidence; None for nothing.

    Args:
        spaces: What the boxes say.
        family: The family that is trained.
    """
    by_space = {one.space: one for one in spaces.evidence}
    wanted = spaces.declared or _WRITTEN[family.box_space]
    where = "boxes in the text" if spaces.declared is None else "boxes"
    counted = f"{spaces.num_boxes:,} boxes"
    if spaces.stored:
        return (
            f"{where} lie outside pictures that EXIF turns, and inside their pixels as they are "
            f"stored ({counted}). Set {_spaced(spaces)}box_orientation: stored."
        )
    if spaces.relaid is not None:
        one, own = spaces.relaid, by_space[spaces.declared or spaces.relaid.space]
        return (
            f"{where} look like {LAYOUTS[one.layout]} in {TITLES[one.space]} ({counted}: "
            f"{one.inside:.0%} inside). As {LAYOUTS['xyxy']}, {own.inside:.0%} are inside and "
            f"{own.ordered:.0%} have their corners in order. Set {_spaced(spaces)}"
            f"box_layout: {one.layout}."
        )
    if spaces.found and wanted not in spaces.found:
        best = by_space[spaces.found[0]]
        looks_like = " or ".join(TITLES[space] for space in spaces.found)
        evidence = f"({counted}: {best.inside:.0%} inside, up to {best.reach:.0%} of the sides)"
        if spaces.declared is not None:
            return (
                f"boxes are declared as {TITLES[wanted]}, and look like {looks_like} {evidence}. "
                "Say what their numbers mean: text_boxes, or bbox_type in ms-swift's rows."
            )
        return (
            f"boxes in the text look like {looks_like} {evidence}, and {family.title} "
            f"writes {TITLES[wanted]}. Set text_boxes: {best.space}."
        )
    own = by_space[wanted]
    if own.inside < _MIN_INSIDE:
        who = f", which {family.title} writes" if spaces.declared is None else ""
        return (
            f"{1 - own.inside:.0%} of {counted}{' in the text' if not spaces.declared else ''} lie "
            f"outside their picture as {TITLES[wanted]}{who}. Say with text_boxes what their "
            "numbers mean."
        )
    if own.ordered < _MIN_INSIDE:
        return (
            f"{1 - own.ordered:.0%} of {counted} have their corners out of order: "
            f"{LAYOUTS['xyxy']} expected. Mend them, or say with box_layout what their numbers are."
        )
    return None


def _spaced(spaces: BoxSpaces) -> str:
    """What must be set beside, for boxes that are left as text."""
    if spaces.declared is not None:
        return ""
    space = spaces.relaid.space if spaces.relaid is not None else "pixels"
    return f"text_boxes: {space} and "


def _units(boxes: BoxNumbers, *, stored: bool) -> dict[TextBoxes, np.ndarray]:
    """(num_boxes, 2) Width and height of every picture in each space."""
    turned = (boxes.sideways & stored)[:, None]
    sides = np.where(turned, boxes.sides[:, ::-1], boxes.sides)
    resized = np.where(turned, boxes.resized[:, ::-1], boxes.resized)
    return {
        "pixels": sides,
        "unit": np.ones_like(sides),
        "thousandths": np.full_like(sides, 1000.0),
        "resized": resized,
        "longest": 1000.0 * sides / sides.max(axis=1, keepdims=True),
    }


def _corners(boxes: BoxNumbers, layout: BoxLayout) -> np.ndarray:
    """(num_boxes, 4) x1, y1, x2, y2."""
    numbers = boxes.numbers
    if layout == "yxyx":
        return numbers[:, [1, 0, 3, 2]]
    if layout == "xywh":
        ends = numbers[:, :2] + numbers[:, 2:]
        return np.where(
            boxes.is_point[:, None], numbers, np.concatenate([numbers[:, :2], ends], axis=1)
        )
    return numbers


def _evidence(
    boxes: BoxNumbers, space: TextBoxes, unit: np.ndarray, layout: BoxLayout = "xyxy"
) -> SpaceEvidence:
    corners = _corners(boxes, layout)
    low = np.minimum(corners[:, :2], corners[:, 2:]) / unit
    high = np.maximum(corners[:, :2], corners[:, 2:]) / unit
    inside = ((high <= _SLACK) & (low >= 1 - _SLACK)).all(axis=1).mean()
    ordered = (corners[:, :2] <= corners[:, 2:]).all(axis=1).mean()
    reach = np.quantile(high, 0.98, axis=0).min()
    return SpaceEvidence(
        space=space,
        layout=layout,
        inside=float(inside),
        ordered=float(ordered),
        reach=float(min(reach, 99.0)),
    )


def _nearest(fitting: Sequence[SpaceEvidence]) -> TextBoxes:
    """The space that fits in which the boxes come nearest to the edges."""
    return min(fitting, key=lambda one: abs(one.reach - 1)).space


def _is_one_factor(boxes: BoxNumbers, unit: np.ndarray, others: Sequence[TextBoxes]) -> bool:
    """Whether boxes end where the short sides do, in thousandths of the longer ones."""
    if "pixels" in others or "resized" in others:
        # Pictures of about a thousand pixels: these are the plainer reading.
        return False
    aspect = boxes.sides.max(axis=1) / boxes.sides.min(axis=1)
    is_long = aspect >= _MIN_ASPECT
    if is_long.sum() < _MIN_ON_LONG:
        return False
    short = boxes.sides.argmin(axis=1)
    high = np.maximum(boxes.numbers[:, :2], boxes.numbers[:, 2:])
    rows = np.arange(len(short))[is_long]
    ends = high[rows, short[is_long]] / unit[rows, short[is_long]]
    # That they are inside is known. Up to the edge, too: by chance none would pass it.
    return bool(np.quantile(ends, 0.98) >= _MIN_REACH)


def _are_on_stored_pixels(boxes: BoxNumbers) -> bool:
    """Whether the boxes of turned pictures are outside as shown, and inside as stored."""
    if not boxes.sideways.any():
        return False
    shown, stored = (_units(boxes, stored=turned)["pixels"] for turned in (False, True))
    as_shown = _evidence(boxes, "pixels", shown)
    as_stored = _evidence(boxes, "pixels", stored)
    return as_shown.inside < _MIN_INSIDE and as_stored.fits


def _relaid(
    boxes: BoxNumbers,
    units: dict[TextBoxes, np.ndarray],
    evidence: Sequence[SpaceEvidence],
) -> SpaceEvidence | None:
    """A layout that fits where x1, y1, x2, y2 does in no space."""
    by_space = {one.space: one for one in evidence}
    spaces: Sequence[TextBoxes] = (
        [boxes.declared] if boxes.declared else ["pixels", "unit", "thousandths", "resized"]
    )
    for space in spaces:
        own = by_space[space]
        as_extent = _evidence(boxes, space, units[space], "xywh")
        if own.ordered < _FEW_ORDERED and as_extent.fits:
            return as_extent
        swapped = _evidence(boxes, space, units[space], "yxyx")
        if own.inside < _MIN_INSIDE and swapped.fits:
            return swapped
    return None
