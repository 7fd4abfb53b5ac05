"""What ``sightline check`` says in the terminal, 80 columns wide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

_NUM_FAULTS = 12


def dataset_report(record: Mapping[str, Any]) -> RenderableType:
    """The report of a check.

    Args:
        record: What ``sightline.checks.dataset.check_data`` returns.
    """
    return Group(*_sections(record))


def _sections(record: Mapping[str, Any]) -> Iterator[RenderableType]:
    yield Text(f"{record['family']}, {record['model']}", style="bold")
    yield Text(f"limit {record['max_length']:,} tokens, data {record['fingerprint']}")
    yield Text(_machine(record["machine"]))
    yield _titled("Sources", _sources(record["sources"]))
    yield _titled("Tokens", _tokens(record))
    if record["keeps"]:
        yield _titled("max_length", _keeps(record))
    yield _titled("Samples", _samples(record))
    if record["faults"]:
        yield _titled("Left out", _faults(record["faults"]))
    if record["suggestions"]:
        yield _titled("Suggestions, what saves most first", _suggestions(record["suggestions"]))
    yield Text()
    for kind, style in (("errors", "bold red"), ("warnings", "yellow")):
        for line in record[kind]:
            yield Text(f"{kind[:-1]}: {line}", style=style)
    if not record["errors"] and not record["warnings"]:
        yield Text("nothing is wrong with the data.", style="green")


def _machine(machine: Mapping[str, Any]) -> str:
    cores, workers = machine["cores"], machine["num_workers"]
    has = f"{cores} {'core' if cores == 1 else 'cores'}", ", ".join(machine["gpus"]) or "no GPU"
    does = machine["precision"], f"{workers} {'worker' if workers == 1 else 'workers'}"
    return f"here {', '.join(has)}: {', '.join(does)}"


def _titled(title: str, *parts: RenderableType) -> RenderableType:
    return Group(
        Text(), Text(title, style="bold"), *(Padding(part, (0, 0, 0, 2)) for part in parts)
    )


def _table(*columns: tuple[str, bool]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
    for name, is_number in columns:
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    return table


def _sources(sources: Sequence[Mapping[str, Any]]) -> RenderableType:
    table = _table(
        ("source", False),
        ("shape", False),
        ("samples", True),
        ("p50", True),
        ("p95", True),
        ("p99", True),
        ("max", True),
    )
    for source in sources:
        lengths = source["lengths"]
        weight = "" if source["weight"] == 1 else f" x {source['weight']:g}"
        table.add_row(
            _short(source["source"]) + weight,
            ", ".join(source["formats"]),
            f"{source['samples']:,}",
            *(f"{lengths[name]:,}" if lengths else "-" for name in ("p50", "p95", "p99", "max")),
        )
    return table


def _tokens(record: Mapping[str, Any]) -> RenderableType:
    tokens = record["tokens"]
    everything = tokens["text"] + tokens["image"] + tokens["video"]
    table = _table(("kind", False), ("tokens", True), ("share", True))
    for kind in ("text", "image", "video"):
        if tokens[kind] or kind == "text":
            table.add_row(kind, f"{tokens[kind]:,}", _share(tokens[kind], everything))
    table.add_row(
        "with a loss", f"{tokens['supervised']:,}", _share(tokens["supervised"], everything)
    )
    return table


def _keeps(record: Mapping[str, Any]) -> RenderableType:
    table = _table(
        ("keeps whole", False),
        ("max_length", True),
        ("samples", True),
        ("tokens", True),
        ("logits of its longest", True),
    )
    for row in record["keeps"]:
        note = "" if row["fits_model"] else f" (model: {record['model_max_length']:,})"
        table.add_row(
            f"{row['percent']} %",
            f"{row['max_length']:,}{note}",
            f"{row['samples']:,}",
            f"{row['tokens']:,}",
            _bytes(row["logits_bytes"]),
        )
    return table


def _samples(record: Mapping[str, Any]) -> RenderableType:
    table = _table(("", False), ("samples", True), ("", False))
    fates, policies = record["fates"], record["policies"]
    table.add_row("kept as they are", f"{fates['kept']:,}", "")
    did = ", ".join(f"{name} {count:,}" for name, count in policies.items() if name != "drop")
    table.add_row("fitted", f"{fates['fitted']:,}", did)
    table.add_row("dropped", f"{fates['dropped']:,}", "")
    table.add_row("quarantined", f"{fates['quarantined']:,}", "")
    table.add_row("input", f"{record['samples']:,}", "", style="bold")
    epoch = record["epoch"]
    said = f"{epoch['tokens']:,} tokens"
    if epoch["unused"]:
        said += f", {epoch['unused']:,} conversations unused by weight"
    table.add_row("an epoch", f"{epoch['conversations']:,}", said)
    if record["shrunk_to"]:
        smallest, median = record["shrunk_to"]["smallest"], record["shrunk_to"]["median"]
        table.add_row(
            "", "", f"shrunk to {median:.0%} of the pixels (median), least {smallest:.0%}"
        )
    if record["duplicates"]["extra"]:
        table.add_row("duplicates", f"{record['duplicates']['extra']:,}", "")
    if record["eval"]:
        also = record["eval"]["also_in_train"]
        note = f"{also:,} of them in data.train too" if also else ""
        table.add_row("held out", f"{record['eval']['conversations']:,}", note)
    return table


def _faults(faults: Sequence[Mapping[str, Any]]) -> RenderableType:
    parts: list[RenderableType] = []
    for fault in faults[:_NUM_FAULTS]:
        parts.append(Text(f"{fault['samples']:,} x {fault['title']}"))
        for example in fault["examples"][:1]:
            field = f" {example['field']}:" if example["field"] else ""
            told = Text(f"{_short(example['where'], 60)}:{field} {example['what']}", style="dim")
            parts.append(Padding(told, (0, 0, 0, 2)))
    if len(faults) > _NUM_FAULTS:
        parts.append(Text(f"and {len(faults) - _NUM_FAULTS} kinds more", style="dim"))
    return Group(*parts)


def _suggestions(suggestions: Sequence[Mapping[str, Any]]) -> RenderableType:
    parts: list[RenderableType] = []
    for number, item in enumerate(suggestions, start=1):
        parts.append(Text(f"{number}. {item['what']}"))
        parts.append(Padding(Text(f"saves {item['saves']}", style="dim"), (0, 0, 0, 3)))
    return Group(*parts)


def _short(path: str, most: int = 32) -> str:
    """The end of a path, which tells files apart."""
    return path if len(path) <= most else f"…{path[1 - most :]}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _bytes(number: int) -> str:
    size = float(number)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
