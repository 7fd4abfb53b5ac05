"""Tables for the terminal: right at 80 columns, and without colour."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from sightline.report.parameters import BlockGroup, group_towers
from sightline.report.quantities import number_text, short_count

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


def plan_table(plan: Mapping[str, Any]) -> Table:
    """The parameter table of ``plan.json`` by tower, blocks of one kind in one row.

    Args:
        plan: The file's content.
    """
    table = make_table(show_footer=True)
    totals = plan["totals"]
    table.add_column("tower", footer="all")
    table.add_column("block", ratio=1, overflow="fold")
    table.add_column("how")
    table.add_column("parameters", justify="right", footer=short_count(totals["num_parameters"]))
    table.add_column("trainable", justify="right", footer=short_count(totals["num_trainable"]))
    table.add_column("learning\nrate", justify="right")
    for tower in group_towers(plan):
        for place, group in enumerate(tower.blocks):
            table.add_row(*_plan_cells(group, first=place == 0))
    return table


def _plan_cells(group: BlockGroup, *, first: bool) -> list[Text]:
    style = "" if group.num_trainable else "dim"
    rate = "-" if group.learning_rate is None else number_text(group.learning_rate)
    texts = (
        group.tower if first else "",
        group.block,
        group.how,
        short_count(group.num_parameters),
        short_count(group.num_trainable),
        rate,
    )
    return [Text(text, style=style) for text in texts]


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


def make_table(*, show_footer: bool = False) -> Table:
    return Table(
        box=box.SIMPLE_HEAD,
        show_footer=show_footer,
        expand=True,
        pad_edge=False,
        collapse_padding=True,
        header_style="bold",
        footer_style="bold",
    )
