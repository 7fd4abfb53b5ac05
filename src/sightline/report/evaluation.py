"""What `sightline evaluate` says in the terminal, 80 columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sightline.report.terminal import make_table

_WIDTH, _INDENT = 79, 8
_MAX_ROWS = 20
_MAX_LABEL = 24
_WORDS = {
    "single_quotes": "single quotes",
    "bare_keys": "keys without quotes",
    "trailing_comma": "a comma too many",
    "missing_comma": "a missing comma",
    "brackets": "brackets that do not fit",
    "python_words": "True, False or None",
    "duplicate_keys": "a key twice",
    "cut_off": "cut off",
    "fenced": "between backticks",
    "text_around": "words around it",
    "corners_swapped": "corners out of order",
    "wrong_count": "wrong number of coordinates",
    "no_numbers": "coordinates that are no numbers",
    "no_picture": "not known in which picture",
}


def evaluation_report(record: Mapping[str, Any]) -> RenderableType:
    """Measures, sources, labels, and how answers could be read.

    Args:
        record: The content of ``evaluation.json``.
    """
    parts: list[RenderableType] = [_metrics(record)]
    if len(record["sources"]) > 1:
        parts.append(_sources(record))
    if len(record["labels"]) > 1:
        parts.append(_labels(record))
    parts.append(_reading("answers", record["reading"]))
    if record["reading_before"] is not None:
        parts.append(_reading("before", record["reading_before"]))
    return Group(*parts)


def _metrics(record: Mapping[str, Any]) -> Table:
    compares = record["reading_before"] is not None
    table = make_table()
    table.add_column("measure", ratio=1)
    table.add_column("of", justify="right")
    if compares:
        table.add_column("before", justify="right")
        table.add_column("after", justify="right")
        table.add_column("change (95 %)", justify="right")
    else:
        table.add_column("value", justify="right")
        table.add_column("95 %", justify="right")
    for one in record["metrics"]:
        cells = [Text(one["title"]), Text(f"{one['num']:,}")]
        if compares:
            cells += [
                Text(value_text(one["before"]["value"])),
                Text(value_text(one["value"])),
                Text(_change(one["change"])),
            ]
        else:
            cells += [Text(value_text(one["value"])), Text(span_text(one))]
        table.add_row(*cells)
    return table


def _change(change: Mapping[str, Any]) -> str:
    value = value_text(change["value"], sign=True)
    return f"{value} {span_text(change, sign=True)}".rstrip()


def _sources(record: Mapping[str, Any]) -> Table:
    """Up to four measures by source: 80 columns hold no more."""
    shown = record["metrics"][:4]
    table = make_table()
    table.add_column("source", ratio=1)
    table.add_column("answers", justify="right")
    for one in shown:
        table.add_column(one["title"], justify="right")
    titles = short_names([source["source"] for source in record["sources"]])
    for title, source in zip(titles, record["sources"], strict=True):
        values = [source["metrics"].get(one["name"]) for one in shown]
        cells = [_then_now(value) for value in values]
        table.add_row(Text(title), Text(f"{source['num']:,}"), *map(Text, cells))
    return table


def _labels(record: Mapping[str, Any]) -> RenderableType:
    table = make_table()
    table.add_column("label", ratio=1)
    table.add_column("boxes", justify="right")
    for title in ("mAP", "mAP 0.50", "precision", "recall"):
        table.add_column(title, justify="right")
    names = ("map", "map_50", "precision", "recall")
    for row in record["labels"][:_MAX_ROWS]:
        before = row["before"]
        cells = [
            _then_now(
                {"value": row[name], "before": before[name]} if before else {"value": row[name]}
            )
            for name in names
        ]
        table.add_row(
            Text(row["label"] or "-"), Text(f"{row['num_annotated']:,}"), *map(Text, cells)
        )
    more = len(record["labels"]) - _MAX_ROWS
    return table if more <= 0 else Group(table, Text(f" and {more:,} labels more\n", style="dim"))


def reading_lines(reading: Mapping[str, Any]) -> list[str]:
    """How answers could be read, what was mended and what was lost: one line each.

    Args:
        reading: ``reading`` of ``evaluation.json``.
    """
    told = [f"{reading['as_they_are']:,} of {reading['num_answers']:,} read as they are"]
    if reading["mended"]:
        told.append(f"{reading['mended']:,} mended")
    if reading["partly_lost"]:
        told.append(f"{reading['partly_lost']:,} read in part")
    if reading["unreadable"]:
        told.append(f"{reading['unreadable']:,} not readable, and counted as empty")
    lines = [", ".join(told)]
    for title, counts in (("mended", reading["repairs"]), ("lost", reading["lost"])):
        if counts:
            listed = ", ".join(f"{_WORDS.get(kind, kind)} {n:,}" for kind, n in counts.items())
            lines.append(f"{title}: {listed}")
    if reading["cut_at_limit"]:
        lines.append(f"{reading['cut_at_limit']:,} ended at the limit on new tokens")
    if reading["unknown_labels"]:
        num = sum(reading["unknown_labels"].values())
        first = _shortened(next(iter(reading["unknown_labels"])) or "no label")
        lines.append(f"{num:,} with a label that nothing is annotated with, {first!r} for one")
    return lines


def _reading(name: str, reading: Mapping[str, Any]) -> Text:
    lines = reading_lines(reading)
    wrapped = [part for line in lines for part in textwrap.wrap(line, _WIDTH - _INDENT)]
    return Text("\n".join([f"{name:<{_INDENT}}{wrapped[0]}", *_indented(wrapped[1:])]))


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"{'':<{_INDENT}}{line}" for line in lines]


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_LABEL else f"{text[:_MAX_LABEL]}..."


def _then_now(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return "-"
    now = value_text(value["value"])
    return f"{value_text(value['before'])} > {now}" if value.get("before") is not None else now


def value_text(value: float | None, *, sign: bool = False) -> str:
    """A measure in three decimals; a dash where there is none."""
    if value is None:
        return "-"
    return f"{value:+.3f}" if sign else f"{value:.3f}"


def span_text(value: Mapping[str, Any], *, sign: bool = False) -> str:
    """The interval of a measure; empty where it has none."""
    if value["low"] is None:
        return ""
    return f"{value_text(value['low'], sign=sign)} to {value_text(value['high'], sign=sign)}"


def short_names(sources: Sequence[str]) -> list[str]:
    """Names of files, with the folder where two are called alike."""
    names = [Path(source).name for source in sources]
    return [
        "/".join(Path(source).parts[-2:]) if names.count(name) > 1 else name
        for source, name in zip(sources, names, strict=True)
    ]
