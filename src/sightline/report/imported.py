"""The import of another tool's configuration, key by key, for the terminal."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from sightline.interop.imported import VERDICTS, Carried, Imported, Verdict, shown
from sightline.report.terminal import make_table

_TITLES: dict[Verdict, tuple[str, str]] = {
    "carried": ("Carried over", "green"),
    "differs": ("Not the same here", "yellow"),
    "none": ("No counterpart", "dim"),
}
# At 80 columns: the longest key of theirs, and ours below its section, stay on one line each.
_THEIRS, _OURS = 29, 23


def imported_report(imported: Imported) -> Group:
    """What was carried over, what differs, and what has no counterpart: a table for each.

    Args:
        imported: The result of an importer.
    """
    parts: list[Text | Table] = []
    for verdict in VERDICTS:
        rows = [row for row in imported.rows if row.verdict == verdict]
        if rows:
            title, style = _TITLES[verdict]
            parts += [Text(f"{title} ({len(rows)})", style=f"bold {style}"), _table(rows, verdict)]
    return Group(*parts)


def imported_summary(imported: Imported) -> str:
    """The import in one sentence.

    Args:
        imported: The result of an importer.
    """
    carried, differs, none = (imported.count(verdict) for verdict in VERDICTS)
    return (
        f"{imported.tool}: {carried} carried over, {differs} not the same here, "
        f"{none} without a counterpart."
    )


def _table(rows: list[Carried], verdict: Verdict) -> Table:
    table = make_table()
    table.add_column("theirs", width=_THEIRS, overflow="fold")
    if verdict == "none":
        table.add_column("why, and what to do", ratio=1, overflow="fold")
    else:
        table.add_column("run.yaml", width=_OURS, overflow="fold")
        table.add_column("what to know", ratio=1, overflow="fold")
    for row in rows:
        theirs = Text(_theirs(row))
        if verdict == "none":
            table.add_row(theirs, Text(row.note))
        else:
            table.add_row(theirs, Text(_ours(row)), Text(row.note))
    return table


def _ours(row: Carried) -> str:
    target, result = row.target or "", shown(row.result)
    if len(f"{target}: {result}") <= _OURS:
        return f"{target}: {result}"
    if len(f"{target}:") <= _OURS:
        return f"{target}:\n{result}"
    section, dot, last = target.rpartition(".")
    short = f"{last}: {result}"
    if len(short) > _OURS:
        short = f"{last}:\n{result}"
    return f"{section}{dot}\n{short}"


def _theirs(row: Carried) -> str:
    """Name and value on one line where they fit, on two otherwise."""
    value = shown(row.value)
    whole = f"{shown(row.key)} = {value}"
    return whole if len(whole) <= _THEIRS else f"{shown(row.key)}\n= {value}"
