"""YAML that knows its lines: duplicate keys refused, 1e-4 a number."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from sightline.errors import ConfigError

Place = tuple[str | int, ...]

_FLOAT = re.compile(r"^[-+]?(\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d+$")


class Lines:
    """Line of every key of a document, by its path."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._lines: dict[Place, int] = {}

    def add(self, place: Place, line: int) -> None:
        """Remember a key."""
        self._lines[place] = line

    def where(self, place: Place) -> str:
        """``file:line`` of a key, or of the nearest key around it."""
        for length in range(len(place), 0, -1):
            if place[:length] in self._lines:
                return f"{self.file}:{self._lines[place[:length]]}"
        return self.file


class _Loader(yaml.SafeLoader):
    """The safe loader with YAML 1.2's floats: in YAML 1.1 ``1e-4`` is a text."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def parse_value(text: str) -> Any:
    """The value of ``--set KEY=VALUE``, read as YAML.

    >>> parse_value("1e-4"), parse_value("[a, b]"), parse_value("null")
    (0.0001, ['a', 'b'], None)
    """
    return yaml.load(text, Loader=_Loader)


def read_yaml(path: Path) -> tuple[dict[str, Any], Lines]:
    """A configuration file as plain values, with the line of every key.

    Raises:
        ConfigError: Missing, not YAML, not a mapping, or a key given twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"{path}: the configuration cannot be read: {reason}.") from error
    lines = Lines(str(path))
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(
                f"{path}: a configuration is a mapping of keys, such as `model: ...`."
            )
        _collect(node, (), lines)
        return loader.construct_document(node), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        raise ConfigError(f"{where}: this is not YAML: {error.problem}.") from error
    finally:
        loader.dispose()


def _collect(node: yaml.Node, place: Place, lines: Lines) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            name, line = str(key_node.value), key_node.start_mark.line + 1
            if name in seen:
                dotted = ".".join(map(str, (*place, name)))
                raise ConfigError(
                    f"{lines.file}:{line}: {dotted} is given twice, first in line {seen[name]}.\n"
                    "Keep one of them."
                )
            seen[name] = line
            lines.add((*place, name), line)
            _collect(value_node, (*place, name), lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines.add((*place, index), item.start_mark.line + 1)
            _collect(item, (*place, index), lines)
