"""What ``sightline inspect model`` says in the terminal, 80 columns wide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sightline.report.model_tree import STYLES, plain_table, tree_lines, tree_table
from sightline.report.parameters import TowerGroup, towers_of
from sightline.report.quantities import bytes_text, short_count
from sightline.report.stages import (
    MARKS,
    StageSpan,
    stage_spans,
    strip_ends,
    strip_text,
    what_trains,
)

_STRIP_WIDTH = 56
_ADDRESSED = (
    "The last column is how run.yaml says it: tuning.TOWER, and blocks and kind in its parts."
)


def map_report(record: Mapping[str, Any]) -> RenderableType:
    """The map of a model.

    Args:
        record: What ``sightline inspect model --json`` prints.
    """
    return Group(*_sections(record))


def towers_of_map(record: Mapping[str, Any]) -> list[TowerGroup]:
    """The towers of a map, blocks that are alike joined.

    Args:
        record: What ``sightline inspect model --json`` prints.
    """
    rows = [
        leaf | {"block": block["name"], "how": leaf["how"] or "freeze"}
        for tower in record["tree"]
        for block in tower["children"]
        for leaf in block["children"]
        if leaf["tied_to"] is None
    ]
    return towers_of(rows, is_tied=record["is_tied"])


def _sections(record: Mapping[str, Any]) -> Iterator[RenderableType]:
    plan, towers = record["plan"], towers_of_map(record)
    yield Text(f"{record['family']['title']}, {record['model']}", style="bold")
    yield _labelled(
        ("plan", plan["path"] if plan is not None else ""),
        ("dtype", record["dtype"]),
        *(("note", note) for note in record["notes"]),
    )
    yield Text()
    if plan is None:
        yield _plain_tree(towers, record["totals"])
        yield Text()
        yield Text(_ADDRESSED, style="dim")
        return
    num_stages = len(plan["stages"])
    lines = tree_lines(towers, "all")
    yield tree_table(lines, record["totals"], num_stages=num_stages, with_memory=True)
    yield Text()
    yield _labelled(("memory", _memory(record["totals"])), ("", "activations come on top"))
    if num_stages > 1:
        yield from _stages(plan["stages"], towers, plan["num_steps"])
    if plan["targets"]:
        yield _titled("Names", _targets(plan["targets"]))


def _plain_tree(towers: Sequence[TowerGroup], totals: Mapping[str, int]) -> Table:
    table = plain_table(
        ("", False), ("weights", True), ("dtype", False), ("memory", True), ("", False)
    )
    for line in tree_lines(towers, "all", with_modules=True):
        if line.group is None:
            table.add_row(line.text, "", "", "", Text(line.words, style="dim"))
            continue
        table.add_row(
            Text.assemble((line.lead, "dim"), line.name),
            short_count(line.group.num_parameters),
            line.group.dtype,
            bytes_text(line.group.num_bytes),
            Text(line.words, style="dim"),
        )
    count, size = totals["num_parameters"], totals["weight_bytes"]
    table.add_row("all", short_count(count), "", bytes_text(size), "", style="bold")
    return table


def _stages(
    stages: Sequence[Mapping[str, Any]], towers: Sequence[TowerGroup], num_steps: int | None
) -> Iterator[RenderableType]:
    spans, is_known = stage_spans(stages, num_steps)
    table = plain_table(("", False), ("until", False), ("trains", False), ("values", True))
    for span in spans:
        number = sum(tower.trainable_in(span.number) for tower in towers)
        table.add_row(
            Text(f"{span.number} {span.name}"),
            span.until,
            Text("\n".join(what_trains(towers, span.number))),
            short_count(number),
        )
    yield _titled("Stages", table)
    yield _titled("Schedule", schedule_strips(towers, spans, is_known=is_known))


def schedule_strips(
    towers: Sequence[TowerGroup], spans: Sequence[StageSpan], *, is_known: bool
) -> RenderableType:
    """How every tower trains over the run, a line of marks each.

    Args:
        towers: The towers.
        spans: The stages.
        is_known: Whether their lengths are.
    """
    grid = Table.grid(padding=(0, 2, 0, 0))
    ends = strip_ends(spans, _STRIP_WIDTH)
    numbers = "".join(
        str(span.number).ljust(end - start)
        for span, start, end in zip(spans, [0, *ends[:-1]], ends, strict=True)
    )
    grid.add_row(Text("stage", style="dim"), Text(numbers[:_STRIP_WIDTH], style="dim"))
    for tower in towers:
        if not tower.is_tied:
            grid.add_row(tower.tower, _coloured(strip_text(tower, spans, _STRIP_WIDTH)))
    marks = ("full", "full"), ("lora", "LoRA"), ("mixed", "both"), ("freeze", "frozen")
    key = "   ".join(f"{MARKS[mode]} {name}" for mode, name in marks)
    scale = "" if is_known else "\nnot to scale: where a stage ends is not known"
    return Group(grid, Text(f"{key}{scale}", style="dim"))


def _coloured(strip: str) -> Text:
    styles = {mark: STYLES.get(mode, STYLES["lora"]) for mode, mark in MARKS.items()}
    return Text.assemble(*((mark, styles[mark]) for mark in strip))


def _targets(targets: Sequence[Mapping[str, Any]]) -> RenderableType:
    table = plain_table(("", False), ("name", False), ("picks", False), ("leaves out", False))
    for target in targets:
        hits, left_out = (
            ", ".join(f"{count:,} in {tower}" for tower, count in target[key].items()) or "-"
            for key in ("hits", "left_out")
        )
        table.add_row(target["key"], Text(target["given"]), hits, left_out)
    return table


def _memory(totals: Mapping[str, int]) -> str:
    names = "weights", "gradients", "optimizer"
    keys = "weight_bytes", "gradient_bytes", "optimizer_bytes"
    parts = (f"{name} {bytes_text(totals[key])}" for name, key in zip(names, keys, strict=True))
    return f"{', '.join(parts)}; all {bytes_text(sum(totals[key] for key in keys))}"


def _labelled(*rows: tuple[str, str]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=7, style="dim")
    for label, said in rows:
        if said:
            grid.add_row(label, Text(said))
    return grid


def _titled(title: str, part: RenderableType) -> RenderableType:
    return Group(Text(), Text(title, style="bold"), Padding(part, (0, 0, 0, 2)))
