"""What becomes of another tool's configuration: values for a run.yaml, and a row for every key."""

from __future__ import annotations

import json
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from sightline.config import RunConfig
from sightline.config.faults import describe
from sightline.config.read import Lines, dotted, dump_yaml
from sightline.errors import ConfigError

Verdict = Literal["carried", "differs", "none"]
VERDICTS: tuple[Verdict, ...] = ("carried", "differs", "none")
THEIR_DEFAULT = "their default"
_WIDTH = 78


@dataclass(frozen=True, kw_only=True)
class Carried:
    """What became of one key.

    Attributes:
        key: The other tool's name of it.
        value: Its value there.
        target: The key of run.yaml; None where there is no counterpart.
        result: The value in run.yaml.
        verdict: carried: the same meaning. differs: another meaning, default or unit. none: no
            counterpart.
        note: What differs, why it does not matter, or what to do. It begins with "their default"
            where the file did not give the key.
    """

    key: str
    value: Any
    target: str | None
    result: Any
    verdict: Verdict
    note: str


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A run configuration made of another tool's.

    Attributes:
        tool: ``llamafactory``, ``swift`` or ``official``.
        source: The file that was read.
        values: Nested values of run.yaml.
        rows: What became of each key, in the order of the verdicts.
    """

    tool: str
    source: Path
    values: dict[str, Any]
    rows: list[Carried]

    def count(self, verdict: Verdict) -> int:
        """How many rows have a verdict."""
        return sum(row.verdict == verdict for row in self.rows)


def validated(imported: Imported) -> RunConfig:
    """The run configuration that the values make.

    Raises:
        ConfigError: Lists every fault, with the file and the key that it comes from.
    """
    try:
        return RunConfig.model_validate(imported.values)
    except ValidationError as error:
        keys = {row.target: row.key for row in imported.rows if row.target}
        faults = []
        for fault in error.errors():
            key = keys.get(dotted(fault["loc"]))
            where = f"{imported.source}: {key}" if key else f"{imported.source}"
            faults.append(describe(fault, Lines(where)))
        raise ConfigError("\n".join(dict.fromkeys(faults))) from None


def render_yaml(imported: Imported) -> str:
    """The run.yaml, with what differs and what was left out as comments at its head."""
    head = [f"Made by `sightline import {imported.tool} {imported.source}`.", ""]
    for verdict, title in (("differs", "Not the same here:"), ("none", "Left out:")):
        rows = [row for row in imported.rows if row.verdict == verdict]
        if rows:
            head += [title, *(f"  {_sentence(row)}" for row in rows), ""]
    lines = [
        wrapped
        for line in head
        for wrapped in textwrap.wrap(line, _WIDTH, subsequent_indent="    ") or [""]
    ]
    comment = "\n".join(f"# {line}".rstrip() for line in lines[:-1])
    return f"{comment}\n\n{_marked(imported)}"


def _sentence(row: Carried) -> str:
    result = f" -> {row.target}" if row.target else ""
    return f"{shown(row.key)} = {shown(row.value)}{result}: {row.note}"


def shown(value: Any) -> str:
    """A value on one line, as YAML writes it.

    What a terminal or a YAML comment cannot show is a question mark.

    >>> shown(True), shown(None), shown(["a", 1])
    ('true', 'null', '[a, 1]')
    """
    if isinstance(value, list | tuple):
        return f"[{', '.join(shown(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {shown(item)}' for name, item in value.items())}}}"
    if isinstance(value, float):
        return f"{value:g}"
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return "".join(sign if sign.isprintable() else "?" for sign in " ".join(text.split()))


def _marked(imported: Imported) -> str:
    """The values as YAML; the other tool's defaults say that they are its."""
    marked = {row.target for row in imported.rows if row.note.startswith(THEIR_DEFAULT)}
    place: list[str] = []
    lines = []
    for line in dump_yaml(imported.values).splitlines():
        found = re.match(r"( *)(\w+):(.*)", line)
        if found:
            place = [*place[: len(found[1]) // 2], found[2]]
        is_default = found is not None and found[3] and ".".join(place) in marked
        lines.append(f"{line}  # {THEIR_DEFAULT}" if is_default else line)
    return "\n".join(lines) + "\n"
