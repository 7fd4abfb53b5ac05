"""Cells of a drawn model: neighbouring blocks that are alike, by how each of their parts trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from sightline.report.parameters import BlockGroup, PartGroup

_STRIPE_EVERY = 4.5
# A norm has few weights; at a layer's size it would look like one.
_HEIGHTS = {"norm": 0.3}
_HOW = {"freeze": "frozen", "lora": "LoRA", "full": "full"}


@dataclass(frozen=True, slots=True)
class Row:
    """Some cells side by side.

    Attributes:
        x: Left edge.
        y: Upper edge.
        width: Width of all of them.
        count: How many they are.
    """

    x: float
    y: float
    width: float
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CellGroup:
    """Neighbouring cells that are alike.

    Attributes:
        title: What they are and how they train, for those who point at them.
        cells: Path of the areas of all their parts.
        stripes: Path of the stripes over what trains by LoRA.
        fills: Path of what trains in full.
        cuts: Path of the gaps between the cells.
    """

    title: str
    cells: str
    stripes: str
    fills: str
    cuts: str


def draw_cells(group: BlockGroup, stage: int, rows: Sequence[Row], height: float) -> CellGroup:
    """Cells of a group, in one row or several.

    Args:
        group: The blocks.
        stage: Number of the stage, from 1.
        rows: Where they stand.
        height: Height of a cell.
    """
    cells: list[str] = []
    stripes: list[str] = []
    fills: list[str] = []
    cuts: list[str] = []
    for row in rows:
        for part, top, size in _slices(group, row.y, height):
            cells.append(_rectangle(row.x, top, row.width, size))
            mode = _mode(part, stage)
            if mode == "lora":
                stripes.append(_stripes(row.x, top, row.width, size))
            elif mode == "full":
                fills.append(_rectangle(row.x, top, row.width, size))
            if top > row.y:
                cuts.append(f"M{row.x:.1f} {top:g}h{row.width:.1f}")
        each = row.width / row.count
        cuts += [f"M{row.x + n * each:.1f} {row.y:g}v{height:g}" for n in range(1, row.count)]
    return CellGroup(
        title=f"{group.tower} {group.block}: {_details(group, stage)}",
        cells="".join(cells),
        stripes="".join(stripes),
        fills="".join(fills),
        cuts="".join(cuts),
    )


def how_words(groups: Sequence[BlockGroup], stage: int) -> str:
    """How cells train: ``LoRA r16``, with the kinds where not all of them do.

    Args:
        groups: The blocks.
        stage: Number of the stage, from 1.
    """
    said: dict[str, None] = {}
    for group in groups:
        layers = [part for part in group.parts if part.kind != "norm"] or list(group.parts)
        active = [part for part in layers if _mode(part, stage) != "freeze"]
        ways = dict.fromkeys(_words(part) for part in active) or {_HOW["freeze"]: None}
        kinds = [part.kind for part in active] if 0 < len(active) < len(layers) else []
        said[" ".join([*kinds, " + ".join(ways)])] = None
    return ", ".join(said)


def _words(part: PartGroup) -> str:
    rank = "" if part.rank is None else f" r{part.rank}"
    return f"{_HOW[part.mode]}{rank}"


def _mode(part: PartGroup, stage: int) -> str:
    return part.mode if part.trained and stage in part.stages else "freeze"


def _details(group: BlockGroup, stage: int) -> str:
    return ", ".join(
        f"{part.kind} {_HOW['freeze'] if _mode(part, stage) == 'freeze' else _words(part)}"
        for part in group.parts
    )


def _slices(
    group: BlockGroup, top: float, height: float
) -> Iterator[tuple[PartGroup, float, float]]:
    """The parts of a cell from top to bottom, each with its top and its height."""
    is_whole = len(group.parts) == 1
    weights = [1.0 if is_whole else _HEIGHTS.get(part.kind, 1.0) for part in group.parts]
    ends = [0.0]
    for weight in weights:
        ends.append(ends[-1] + weight / sum(weights) * height)
    for part, (start, end) in zip(group.parts, pairwise(ends), strict=True):
        yield part, round(top + start, 1), round(end - start, 1)


def _rectangle(x: float, y: float, width: float, height: float) -> str:
    return f"M{x:.1f} {y:.1f}h{width:.1f}v{height:.1f}h-{width:.1f}z"


def _stripes(x: float, y: float, width: float, height: float) -> str:
    count = max(int(height / _STRIPE_EVERY), 1)
    first = y + (height - (count - 1) * _STRIPE_EVERY) / 2
    return "".join(f"M{x:.1f} {first + n * _STRIPE_EVERY:.1f}h{width:.1f}" for n in range(count))
