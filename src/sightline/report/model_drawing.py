"""A planned model as shapes of inline SVGs, one a stage: every block a cell, by how it trains.

Pixels come in on the left, tokens leave on the right. A pale cell is frozen, a striped one trains
by LoRA, a filled one in full: it reads without colour. Inside a cell attention stands over MLP
over norms, each as it trains.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from sightline.report.model_cells import CellGroup, Row, draw_cells, how_words
from sightline.report.parameters import BlockGroup, TowerGroup, group_towers
from sightline.report.quantities import short_count
from sightline.report.stages import StageSpan, stage_spans, what_trains

_CELL_HEIGHT = 44.0
_SINGLE, _WIDEST, _NARROWEST = 26.0, 44.0, 8.0
_ARROW, _END, _TIED = 20.0, 46.0, 62.0
_LETTER = 6.4
_TOP = 34.0
_READ_HEIGHT, _READ_EVERY = 11.0, 16.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """Words at a place.

    Attributes:
        x: From the left.
        y: Baseline, from above.
        text: The words.
        anchor: ``start``, ``middle`` or ``end``, as SVG has it.
    """

    x: float
    y: float
    text: str
    anchor: str = "start"


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelDrawing:
    """A model in one stage.

    Attributes:
        width: Width of the drawing, pixels at full size.
        height: Height, the same.
        groups: The cells.
        titles: What the parts of the model are called.
        labels: How they train.
        arrows: Path of the way from pixels to tokens.
        reads: Path from vision blocks to the deepstack mergers that read them.
        summary: The drawing in words.
    """

    width: float
    height: float
    groups: tuple[CellGroup, ...]
    titles: tuple[Label, ...]
    labels: tuple[Label, ...]
    arrows: str
    reads: str
    summary: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StageDrawing:
    """A stage with its drawings.

    Attributes:
        span: The stage.
        num_trainable: Values that train in it.
        trains: What trains, one tower an item.
        wide: For a page.
        narrow: For a telephone.
    """

    span: StageSpan
    num_trainable: str
    trains: tuple[str, ...]
    wide: ModelDrawing
    narrow: ModelDrawing


def draw_plan(plan: Mapping[str, Any]) -> list[StageDrawing]:
    """The drawings of a plan, one a stage.

    Args:
        plan: The content of ``plan.json``.
    """
    towers = group_towers(plan)
    num_steps = (plan.get("schedule") or {}).get("num_steps")
    spans, _ = stage_spans(plan["stages"], num_steps)
    return [
        StageDrawing(
            span=span,
            num_trainable=short_count(sum(t.trainable_in(span.number) for t in towers)),
            trains=tuple(what_trains(towers, span.number)),
            wide=_Wide(towers, span).drawing(),
            narrow=_Narrow(towers, span).drawing(),
        )
        for span in spans
    ]


class _Canvas(ABC):
    """Collects the shapes of one drawing.

    Args:
        towers: The model.
        span: The stage.
    """

    width = 0.0

    def __init__(self, towers: Sequence[TowerGroup], span: StageSpan) -> None:
        self._towers = {tower.tower: tower for tower in towers}
        self._span = span
        self._stage = span.number
        self._groups: list[CellGroup] = []
        self._titles: list[Label] = []
        self._labels: list[Label] = []
        self._arrows: list[str] = []
        self._reads: list[str] = []

    def drawing(self) -> ModelDrawing:
        height = self._draw()
        return ModelDrawing(
            width=self.width,
            height=round(height, 1),
            groups=tuple(self._groups),
            titles=tuple(self._titles),
            labels=tuple(self._labels),
            arrows="".join(self._arrows),
            reads="".join(self._reads),
            summary=self._summary(),
        )

    @abstractmethod
    def _draw(self) -> float:
        """Draw everything; the height that it took."""

    def _summary(self) -> str:
        trains = what_trains(list(self._towers.values()), self._stage)
        return (
            f"{self._span.name}. The model from pixels to tokens. In training: "
            f"{'; '.join(trains)}. Everything else is frozen."
        )

    @property
    def _is_tied(self) -> bool:
        return "head" in self._towers and self._towers["head"].is_tied

    def _singles(self, tower: str) -> list[BlockGroup]:
        """Blocks of a tower that have no number, in order."""
        return [block for block in self._blocks(tower) if block.first is None]

    def _runs(self, tower: str) -> list[BlockGroup]:
        """Groups of numbered blocks, in order."""
        return [block for block in self._blocks(tower) if block.first is not None]

    def _blocks(self, tower: str) -> tuple[BlockGroup, ...]:
        return self._towers[tower].blocks if tower in self._towers else ()

    def _put(self, group: BlockGroup, rows: Sequence[Row], height: float) -> None:
        self._groups.append(draw_cells(group, self._stage, rows, height))

    def _how(self, groups: Sequence[BlockGroup]) -> str:
        return how_words(groups, self._stage)

    def _label(self, x: float, y: float, room: float, choices: Sequence[str]) -> None:
        """The first of several wordings that fits."""
        for text in choices:
            if len(text) * _LETTER <= room:
                self._labels.append(Label(x=round(x, 1), y=y, text=text, anchor="middle"))
                return


class _Wide(_Canvas):
    """From left to right."""

    width = 960.0

    def _draw(self) -> float:
        runs = [*self._runs("vision"), *self._runs("language")]
        singles = sum(len(self._singles(tower)) for tower in self._towers)
        fixed = singles * _SINGLE + 7 * _ARROW + 2 * _END + self._is_tied * _TIED
        count = sum(group.num_blocks for group in runs)
        self._each = min((self.width - fixed) / max(count, 1), _WIDEST)
        self._x, self._middle = 0.0, _TOP + _CELL_HEIGHT / 2
        self._word("pixels")
        self._arrow()
        self._segment("patches", self._singles("vision"))
        self._arrow()
        starts = self._run("vision blocks", "vision")
        self._arrow()
        merger = self._x
        self._segment("merger", self._singles("projector"))
        self._plus()
        self._segment("text", self._singles("embeddings"))
        self._arrow()
        layers = self._x
        self._run("language layers", "language")
        self._segment("", self._singles("language"))
        self._arrow()
        self._segment("head", self._singles("head"))
        if self._is_tied:
            self._titles.append(Label(x=round(self._x, 1), y=self._middle + 4, text="tied head"))
            self._x += _TIED
        self._arrow()
        self._word("tokens")
        return self._deepstack(starts, merger, layers)

    def _word(self, text: str) -> None:
        self._titles.append(Label(x=round(self._x, 1), y=self._middle + 4, text=text))
        self._x += _END

    def _arrow(self) -> None:
        self._arrows.append(_arrow(self._x + 3, self._middle, _ARROW - 6))
        self._x += _ARROW

    def _plus(self) -> None:
        x, y = self._x + _ARROW / 2, self._middle
        self._arrows.append(f"M{x - 4:.1f} {y:g}h8M{x:.1f} {y - 4:g}v8")
        self._x += _ARROW

    def _segment(self, title: str, blocks: Sequence[BlockGroup]) -> None:
        """Blocks without a number, under one title."""
        start = self._x
        for block in blocks:
            self._put(block, [Row(self._x, _TOP, _SINGLE - 1.5, 1)], _CELL_HEIGHT)
            self._x += _SINGLE
        if blocks and title:
            middle = round((start + self._x) / 2, 1)
            self._titles.append(Label(x=middle, y=12, text=title, anchor="middle"))
            room = self._x - start + 1.8 * _ARROW
            self._label(middle, 27, room, [self._how(blocks)])

    def _run(self, title: str, tower: str) -> dict[int, float]:
        """Numbered blocks, and the middle of each."""
        starts: dict[int, float] = {}
        begin = self._x
        for group in self._runs(tower):
            width = group.num_blocks * self._each
            self._put(group, [Row(self._x, _TOP, width - 1.5, group.num_blocks)], _CELL_HEIGHT)
            assert group.first is not None
            for place in range(group.num_blocks):
                starts[group.first + place] = self._x + (place + 0.5) * self._each
            self._label(self._x + width / 2, 27, width, _wordings(group, self._how([group])))
            self._x += width
        if starts:
            self._titles.append(Label(x=round(begin, 1), y=12, text=title))
        return starts

    def _deepstack(self, starts: Mapping[int, float], merger: float, layers: float) -> float:
        """The deepstack mergers under the merger, with what they read; the drawing's height."""
        groups = self._runs("projector")
        total = sum(group.num_blocks for group in groups)
        bottom = _TOP + _CELL_HEIGHT
        if not total:
            return bottom + 10
        sources = [block for group in groups for block in group.reads_from]
        place = 0
        for group in groups:
            # The last reads the last block, and stands on top: so no two lines cross.
            rows = [
                Row(merger, bottom + 8 + (total - 1 - place - n) * _READ_EVERY, _SINGLE - 1.5, 1)
                for n in range(group.num_blocks)
            ]
            self._put(group, rows, _READ_HEIGHT)
            place += group.num_blocks
        target = layers + self._each / 2
        for index in range(total):
            y = bottom + 8 + (total - 1 - index) * _READ_EVERY + _READ_HEIGHT / 2
            if index < len(sources) and sources[index] in starts:
                x = starts[sources[index]]
                self._reads.append(f"M{x:.1f} {bottom + 2:g}V{y:g}H{merger - 3:.1f}")
            self._reads.append(f"M{merger + _SINGLE + 1:.1f} {y:g}H{target:.1f}")
        low = bottom + 8 + (total - 1) * _READ_EVERY + _READ_HEIGHT / 2
        self._reads.append(f"M{target:.1f} {low:g}V{bottom + 4:g}")
        self._arrows.append(f"M{target - 3.5:.1f} {bottom + 7:g}l3.5 -4l3.5 4")
        blocks = ", ".join(str(block) for block in sources)
        which = "block" if len(sources) == 1 else "blocks"
        words = f"deepstack of {which} {blocks}, into the first layers: {self._how(groups)}"
        self._labels.append(Label(x=round(target + 8, 1), y=bottom + 20, text=words))
        return low + 12


class _Narrow(_Canvas):
    """From top to bottom, cells in as many rows as they need."""

    width = 350.0

    def _draw(self) -> float:
        self._y = 0.0
        self._line("pixels → patches", self._singles("vision"), [])
        self._line("→ vision blocks", [], self._runs("vision"))
        self._line("→ merger", self._singles("projector"), [])
        deepstack = self._runs("projector")
        if deepstack:
            blocks = ", ".join(str(block) for group in deepstack for block in group.reads_from)
            self._line(f"→ deepstack mergers, of blocks {blocks}", [], deepstack)
        self._line("text → token embedding", self._singles("embeddings"), [])
        self._line("→ language layers", self._singles("language"), self._runs("language"))
        if self._is_tied:
            self._titles.append(Label(x=0, y=self._y + 12, text="→ head, tied → tokens"))
            return self._y + 20
        self._line("→ head → tokens", self._singles("head"), [])
        return self._y

    def _line(self, title: str, singles: Sequence[BlockGroup], runs: Sequence[BlockGroup]) -> None:
        if not singles and not runs:
            return
        groups = [*runs, *singles]
        count = sum(group.num_blocks for group in groups)
        self._titles.append(Label(x=0, y=self._y + 12, text=title))
        how = self._how(groups)
        room = self.width - len(title) * _LETTER - 12
        if len(how) * _LETTER <= room:
            self._labels.append(Label(x=self.width, y=self._y + 12, text=how, anchor="end"))
        # As many rows as needed, of the same length.
        num_rows = ceil(count * _NARROWEST / self.width)
        fit = ceil(count / num_rows)
        each = min(self.width / fit, _WIDEST)
        height = _CELL_HEIGHT * 0.6
        top, place = self._y + 18, 0
        for group in groups:
            rows = []
            left = group.num_blocks
            while left:
                line, column = divmod(place, fit)
                taken = min(left, fit - column)
                y = top + line * (height + 4)
                rows.append(Row(column * each, y, taken * each - 1.5, taken))
                place, left = place + taken, left - taken
            self._put(group, rows, height)
        self._y = top + num_rows * (height + 4) + 8


def _wordings(group: BlockGroup, how: str) -> list[str]:
    """What stands over a run of blocks, from long to short."""
    assert group.first is not None
    last = group.first + group.num_blocks - 1
    numbers = f"{group.first}-{last}" if group.num_blocks > 1 else str(group.first)
    return [f"{numbers}: {how}", how, f"{numbers}: in part" if " " in how else numbers, numbers]


def _arrow(x: float, y: float, length: float) -> str:
    return f"M{x:.1f} {y:g}h{length:g}m-4 -3.5l4 3.5l-4 3.5"
