"""What `sightline compare` says in the terminal, 80 columns wide."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sightline.report.compare_rows import ComparedTable, compared_tables, letters
from sightline.report.terminal import make_table

# 80 columns hold a name and three values that can be read.
_MOST_COLUMNS = 3
_NAME_WIDTH = 24
_STYLES = {"FAILS": "bold red", "holds": "green"}


def comparison_report(record: Mapping[str, Any]) -> RenderableType:
    """The runs by letter, then a table for everything that is compared.

    Args:
        record: Of `compare_record`.
    """
    names = letters(len(record["runs"]))
    parts: list[RenderableType] = [
        Text.assemble((f"{letter:<4}", "bold"), run["name"])
        for letter, run in zip(names, record["runs"], strict=True)
    ]
    parts.append(Text())
    for table in compared_tables(record):
        parts += _drawn(table, names)
    return Group(*parts)


def _drawn(table: ComparedTable, names: Sequence[str]) -> list[RenderableType]:
    if not table.rows:
        return [Text.assemble((f"{table.title}: ", "bold"), table.note), Text()]
    # Four runs are two and two, not three and one.
    num_blocks = math.ceil(len(names) / _MOST_COLUMNS)
    size = math.ceil(len(names) / num_blocks)
    parts: list[RenderableType] = [
        _columns(table, names, slice(first, first + size)) for first in range(0, len(names), size)
    ]
    if table.note:
        parts += [Text(table.note, style="dim"), Text()]
    return parts


def _columns(table: ComparedTable, names: Sequence[str], shown: slice) -> Table:
    drawn = make_table()
    drawn.add_column(table.title, width=_NAME_WIDTH, overflow="fold")
    for name in names[shown]:
        drawn.add_column(name, ratio=1, overflow="fold")
    for row in table.rows:
        cells = [Text(value, style=_STYLES.get(value, "")) for value in row.values[shown]]
        drawn.add_row(Text(_broken(row.name)), *cells)
    return drawn


def _broken(name: str) -> str:
    """A key of the configuration, broken where a section ends and not in a word."""
    if len(name) <= _NAME_WIDTH or " " in name:
        return name
    head, _, tail = name.rpartition(".")
    return f"{head}.\n  {tail}"
