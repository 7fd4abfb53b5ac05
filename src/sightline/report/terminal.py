"""Tables for the terminal: right at 80 columns, and without colour."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sightline.report.model_map import schedule_strips
from sightline.report.model_tree import TreeLine, tree_lines, tree_table
from sightline.report.parameters import TowerGroup, group_towers
from sightline.report.quantities import number_text
from sightline.report.stages import stage_spans

_NUM_LINES = 25
_VERDICTS = {True: ("holds", "green"), False: ("FAILS", "bold red"), None: ("info", "dim")}


def certificate_table(certificate: Mapping[str, Any]) -> Table:
    """The checks of ``certificate.json``: what was checked, seen, and would still have held.

    Args:
        certificate: The file's content.
    """
    table = make_table()
    table.add_column("check", ratio=5)
    table.add_column("measured", ratio=5)
    table.add_column("tolerance", ratio=2)
    table.add_column("verdict", width=7)
    for check in certificate["checks"]:
        word, style = _VERDICTS[check["holds"]]
        table.add_row(
            Text(check["title"]),
            Text(check["measured"]),
            Text(check["tolerance"] or "-"),
            Text(word, style=style),
        )
    return table


def changes_table(changes: Sequence[tuple[str, str, str]]) -> RenderableType:
    """What is otherwise than at an earlier verification.

    Args:
        changes: What, before, and now; either side may be empty.
    """
    if not changes:
        return Text("nothing changed since the earlier certificate")
    table = make_table()
    table.add_column("changed", ratio=2)
    table.add_column("earlier", ratio=2)
    table.add_column("now", ratio=2)
    for what, before, now in changes:
        table.add_row(Text(what), Text(before or "-"), Text(now or "-"))
    return table


def plan_table(plan: Mapping[str, Any]) -> RenderableType:
    """The parameter table of ``plan.json`` as a tree, and its stages where there are several.

    Args:
        plan: The file's content.
    """
    towers, stages = group_towers(plan), plan["stages"]
    table = tree_table(_few_lines(towers), plan["totals"], num_stages=len(stages))
    if len(stages) == 1:
        return Group(Text(), table, Text())
    num_steps = (plan.get("schedule") or {}).get("num_steps")
    spans, is_known = stage_spans(stages, num_steps)
    strips = schedule_strips(towers, spans, is_known=is_known)
    borders = "; ".join(f"{span.number} {span.name}, {span.words}" for span in spans)
    return Group(Text(), table, Text(), strips, Text(f"stages: {borders}", style="dim"), Text())


def _few_lines(towers: list[TowerGroup]) -> list[TreeLine]:
    """As much of the tree as stays in sight."""
    shown: list[TreeLine] = []
    for detail in ("uneven", "blocks", "towers"):
        shown = tree_lines(towers, detail)
        if len(shown) <= _NUM_LINES:
            break
    return shown


def demo_table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """The outcome of the first experiment, one row a family.

    Args:
        rows: For each family ``family``, ``loss``, ``num_equal``, ``control_equal``,
            ``num_samples`` and ``verdict``; ``loss`` and ``control_equal`` may be None.
    """
    table = make_table()
    table.add_column("family", ratio=1)
    table.add_column("final loss", justify="right")
    table.add_column("exact answers", justify="right")
    table.add_column("control (1-D)", justify="right")
    table.add_column("certificate")
    for row in rows:
        word, style = _VERDICTS[row["verdict"] == "holds"]
        table.add_row(
            Text(row["family"]),
            Text("-" if row["loss"] is None else number_text(row["loss"])),
            Text(_of(row["num_equal"], row["num_samples"])),
            Text(_of(row["control_equal"], row["num_samples"])),
            Text(word, style=style),
        )
    return table


def _of(number: int | None, total: int) -> str:
    return "-" if number is None else f"{number} of {total}"


def make_table() -> Table:
    return Table(
        box=box.SIMPLE_HEAD,
        expand=True,
        pad_edge=False,
        collapse_padding=True,
        header_style="bold",
    )
