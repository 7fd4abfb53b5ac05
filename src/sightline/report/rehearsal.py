"""A rehearsal in the terminal: its samples, its joints, and what to do where one failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sightline.report.quantities import count_text, number_text, plural
from sightline.report.terminal import make_table

_WORDS = {
    "ok": ("ok", "green"),
    "failed": ("FAILED", "bold red"),
    "info": ("-", "dim"),
    "unseen": ("unseen", "dim"),
}

_MAX_PLACE = 26


def rehearsal_report(record: Mapping[str, Any]) -> RenderableType:
    """Samples and joints, 80 columns wide.

    Args:
        record: The content of ``rehearsal.json``.
    """
    parts: list[RenderableType] = []
    if record["samples"]:
        parts += [Text(), _samples(record["samples"])]
    return Group(*parts, _joints(record["joints"]))


def failure_lines(joint: Mapping[str, Any]) -> list[str]:
    """What was seen at a joint that failed, where, and what to do; not wrapped.

    Args:
        joint: One of ``joints``.
    """
    lines = [f"{joint['id']} FAILED: wanted is that {joint['title']}", f"  seen   {joint['seen']}"]
    if joint["where"]:
        lines.append(f"  where  {joint['where']}")
    for number, line in enumerate(joint["advice"].splitlines()):
        lines.append(f"  {'' if number else 'do':<7}{line}")
    return lines


def verdict_line(record: Mapping[str, Any]) -> str:
    """The outcome in one line.

    Args:
        record: The content of ``rehearsal.json``.
    """
    known = plural(len(record["samples"]), "sample")
    if record["verdict"] == "holds":
        return f"verdict {known} learned and answered exactly: the parts fit together."
    return f"verdict Fails first at: {record['failed_at']}. What fails after it may follow from it."


def _samples(samples: list[Mapping[str, Any]]) -> Table:
    table = make_table()
    table.add_column("sample", no_wrap=True)
    table.add_column("kind", ratio=1)
    for name in ("tokens", "loss", "wrong"):
        table.add_column(name, justify="right")
    for sample in samples:
        loss, wrong = sample.get("loss"), sample.get("num_wrong")
        table.add_row(
            Text(_end(sample["origin"]), no_wrap=True),
            Text(", ".join(sample["kinds"])),
            Text(count_text(sample["length"])),
            Text("-" if loss is None else number_text(loss)),
            Text("-" if wrong is None else f"{wrong} of {sample['num_tokens']}"),
        )
    return table


def _end(origin: str) -> str:
    """The end of a place in the data: its beginning is the same for all."""
    name = origin.rpartition("/")[2]
    return name if len(name) <= _MAX_PLACE else f"…{name[1 - _MAX_PLACE :]}"


def _joints(joints: list[Mapping[str, Any]]) -> Table:
    table = make_table()
    table.add_column("joint", width=9)
    table.add_column("verdict", width=7)
    table.add_column("what was seen", ratio=1)
    for joint in joints:
        word, style = _WORDS[joint["state"]]
        table.add_row(Text(joint["id"]), Text(word, style=style), Text(joint["seen"]))
    return table
