"""A model as lines of a tree: towers, blocks that are alike in one line, what is inside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Literal

from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from sightline.report.parameters import BlockGroup, PartGroup, Summed, TowerGroup
from sightline.report.quantities import bytes_text, number_text, short_count

Detail = Literal["towers", "blocks", "uneven", "all"]
"""How deep a tree goes: ``uneven`` shows the inside of blocks where it does not train alike."""

_NAME_WIDTH = 30

STYLES = {"freeze": "dim", "lora": "cyan", "full": "yellow"}


@dataclass(frozen=True, kw_only=True, slots=True)
class TreeLine:
    """A line of the tree.

    Attributes:
        lead: The branches before it.
        name: What the line is about.
        group: What it counts; None for a line of words.
        words: The configuration's words for it: ``tuning.vision``, ``blocks: 0-31``,
            ``kind: attention``.
    """

    lead: str
    name: str
    group: Summed | None
    words: str = ""

    @property
    def text(self) -> Text:
        """The line's beginning, its branches grey."""
        style = "dim" if self.group is None or not self.group.num_trainable else ""
        return Text.assemble((self.lead, "dim"), (self.name, style))


def tree_lines(
    towers: Sequence[TowerGroup], detail: Detail, *, with_modules: bool = False
) -> list[TreeLine]:
    """The lines of a model.

    Args:
        towers: Its towers.
        detail: How deep the tree goes.
        with_modules: Whether the modules of every kind of layer are listed below it.
    """
    return [line for tower in towers for line in _tower(tower, detail, with_modules)]


def _tower(tower: TowerGroup, detail: Detail, with_modules: bool) -> Iterator[TreeLine]:
    words = f"tuning.{tower.tower}"
    if tower.is_tied:
        yield TreeLine(lead="", name=f"{tower.tower}: tied to embeddings", group=None, words=words)
        return
    if len(tower.blocks) == 1 and len(tower.leaves) == 1:
        [block] = tower.blocks
        name = f"{tower.tower}: {block.block}"
        yield TreeLine(lead="", name=name, group=tower, words=words)
        yield from _below(block, block.parts[0], "   ", with_modules)
        return
    yield TreeLine(lead="", name=tower.tower, group=tower, words=words)
    if detail == "towers":
        return
    for place, block in enumerate(tower.blocks):
        is_last = place == len(tower.blocks) - 1
        yield from _block(block, detail, with_modules, is_last=is_last)


def _block(
    block: BlockGroup, detail: Detail, with_modules: bool, *, is_last: bool
) -> Iterator[TreeLine]:
    lead, inside = ("└─ ", "   ") if is_last else ("├─ ", "│  ")
    yield TreeLine(lead=lead, name=block.block, group=block, words=_block_words(block))
    if len(block.parts) == 1:
        yield from _below(block, block.parts[0], inside, with_modules)
        return
    if detail == "all" or (detail == "uneven" and not block.is_even):
        for place, part in enumerate(block.parts):
            last = place == len(block.parts) - 1
            branch, further = ("└─ ", "   ") if last else ("├─ ", "│  ")
            words = f"kind: {part.kind}"
            yield TreeLine(lead=inside + branch, name=part.kind, group=part, words=words)
            yield from _below(block, part, inside + further, with_modules)


def _below(block: BlockGroup, part: PartGroup, lead: str, with_modules: bool) -> Iterator[TreeLine]:
    """What stands below a line in words: where it reads, and what its modules are called."""
    if block.reads_from:
        blocks = ", ".join(str(number) for number in block.reads_from)
        which = "block" if len(block.reads_from) == 1 else "blocks"
        yield TreeLine(lead=lead, name=f"reads {which} {blocks}", group=None)
    if with_modules:
        width = max(_NAME_WIDTH - len(lead), 1)
        for line in wrap(", ".join(part.modules), width, break_long_words=False):
            yield TreeLine(lead=lead, name=line, group=None)


def _block_words(block: BlockGroup) -> str:
    if block.first is None:
        return f"kind: {block.parts[0].kind}"
    last = block.first + block.num_blocks - 1
    return f"blocks: {block.first}-{last}" if block.num_blocks > 1 else f"blocks: {block.first}"


def how_text(group: Summed) -> Text:
    """How something trains, in at most nine characters; its parts say more where it is mixed."""
    trained = [part for part in group.leaves if part.trained]
    modes = sorted({part.mode for part in trained})
    if len(modes) > 1:
        return Text("mixed", style=STYLES[modes[0]])
    mode = modes[0] if modes else "freeze"
    return Text(mode if len({part.rank for part in trained}) > 1 else group.how, STYLES[mode])


def tree_table(
    lines: Sequence[TreeLine],
    totals: Mapping[str, int],
    *,
    num_stages: int,
    with_memory: bool = False,
) -> Table:
    """The tree of a planned model with what trains, how and when: at most 80 columns wide.

    Args:
        lines: Its lines.
        totals: ``totals`` of the plan's record.
        num_stages: Stages of the plan; with several, a column says which train a part.
        with_memory: Whether a column says what weights, gradients and moments take.
    """
    columns = [("", False), ("weights", True), ("how", False), ("trains", True), ("rate", True)]
    columns += [("stage", False)] if num_stages > 1 else []
    columns += [("memory", True)] if with_memory else []
    table = plain_table(*columns)
    for line in lines:
        cells = _cells(line.group, num_stages > 1, with_memory) if line.group else ()
        table.add_row(line.text, *cells)
    counts = (short_count(totals["num_parameters"]), "", short_count(totals["num_trainable"]), "")
    size = totals["weight_bytes"] + totals["gradient_bytes"] + totals["optimizer_bytes"]
    rest = ("",) if num_stages > 1 else ()
    table.add_row(
        "all", *counts, *rest, *((bytes_text(size),) if with_memory else ()), style="bold"
    )
    return table


def plain_table(*columns: tuple[str, bool]) -> Table:
    """A table without lines; each column with its heading, and whether it holds numbers."""
    table = Table(
        box=None, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False, header_style="dim"
    )
    for name, is_number in columns:
        side: JustifyMethod = "right" if is_number else "left"
        table.add_column(name, justify=side, overflow="fold", no_wrap=is_number)
    return table


def _cells(group: Summed, with_stages: bool, with_memory: bool) -> list[Text]:
    trains = bool(group.num_trainable)
    style = "" if trains else "dim"
    rates = group.peaks
    peak = number_text(rates[-1]) if rates else "-"
    cells = [
        Text(short_count(group.num_parameters), style=style),
        how_text(group),
        Text(short_count(group.num_trainable) if trains else "-", style=style),
        # The highest of several; the table of stages has them all.
        Text(f"≤{peak}" if len(rates) > 1 else peak, style=style),
    ]
    cells += [Text(stages_text(group.stages), style=style)] if with_stages else []
    return cells + ([Text(bytes_text(group.num_bytes), style=style)] if with_memory else [])


def stages_text(stages: Sequence[int]) -> str:
    """Numbers of stages, neighbours joined.

    >>> stages_text((1, 2, 3, 5)), stages_text(())
    ('1-3,5', '-')
    """
    runs: list[list[int]] = []
    for stage in stages:
        if runs and stage == runs[-1][-1] + 1:
            runs[-1].append(stage)
        else:
            runs.append([stage])
    joined = [f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
    return ",".join(joined) or "-"
