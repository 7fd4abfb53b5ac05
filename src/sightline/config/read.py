"""YAML that knows its lines: duplicate keys refused, 1e-4 a number."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError
from yaml.reader import ReaderError

from sightline.errors import ConfigError

Place = tuple[str | int, ...]

# YAML 1.2's floats. In YAML 1.1, which PyYAML reads, 1e-4 is a text.
_FLOAT = re.compile(r"^[-+]?(\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d+$")
_ODD_LINE_ENDS = "\x85\u2028\u2029"
_FLOAT_STARTS = list("-+0123456789.")


def dotted(place: Place) -> str:
    """A place as a key is written.

    >>> dotted(("data", "train", 0, "path"))
    'data.train[0].path'
    """
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


class Lines:
    """Where every key of a configuration was written, by its path."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._lines: dict[Place, int] = {}
        self._overrides: dict[Place, str] = {}

    def add(self, place: Place, line: int) -> None:
        """Remember the line of a key."""
        self._lines[place] = line

    def override(self, place: Place, override: str) -> None:
        """Remember that a key was given on the command line: the file's line is not to blame."""
        self._lines = {
            known: line for known, line in self._lines.items() if known[: len(place)] != place
        }
        self._overrides[place] = override

    def where(self, place: Place) -> str:
        """``file:line`` of a key, or ``--set KEY=VALUE``, or that of the nearest key around it."""
        for length in range(len(place), 0, -1):
            if place[:length] in self._overrides:
                return f"--set {self._overrides[place[:length]]}"
            if place[:length] in self._lines:
                return f"{self.file}:{self._lines[place[:length]]}"
        return self.file


class _Loader(yaml.SafeLoader):
    """The safe loader with YAML 1.2's floats, and without dates: no key holds one."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)  # type: ignore[no-untyped-call]
        except ValueError as error:
            # Too many digits, or a tag that does not fit: PyYAML lets it pass without a line.
            problem = f"{error}; a text is written in quotes"
            raise ConstructorError(None, None, problem, node.start_mark) from error


class _Dumper(yaml.SafeDumper):
    """Quotes a text that `_Loader` would read as something else."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # PyYAML writes these line ends plainly into single quotes, and reads them back as spaces.
    style = '"' if any(end in text for end in _ODD_LINE_ENDS) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Loader.yaml_implicit_resolvers = {
    start: [(tag, pattern) for tag, pattern in known if tag != "tag:yaml.org,2002:timestamp"]
    for start, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, _FLOAT_STARTS)
_Dumper.add_representer(str, _represent_text)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, _FLOAT_STARTS)


def dump_yaml(value: Any) -> str:
    """Plain values as YAML that `read_yaml` reads back."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def parse_value(text: str) -> Any:
    """The value of ``--set KEY=VALUE``, read as YAML.

    Raises:
        ConfigError: Not YAML, or a key given twice.

    >>> parse_value("1e-4"), parse_value("[a, b]"), parse_value("null")
    (0.0001, ['a', 'b'], None)
    """
    try:
        value, keys = _parse(text)
    except _UnreadableError as error:
        raise ConfigError(f"the value is not YAML: {error.problem}.") from error
    doubled = [dotted(place) for place, _, _ in keys.doubled]
    if doubled:
        raise ConfigError(f"{', '.join(doubled)} is given twice. Keep one of them.")
    return value


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
    try:
        value, keys = _parse(text)
    except _UnreadableError as error:
        where = str(path) if error.line is None else f"{path}:{error.line}"
        raise ConfigError(f"{where}: this is not YAML: {error.problem}.") from error
    if keys.doubled:
        raise ConfigError(
            "\n".join(
                f"{path}:{line}: {'.'.join(map(str, place))} is given twice, "
                f"first in line {first}.\nKeep one of them."
                for place, line, first in keys.doubled
            )
        )
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: a configuration is a mapping of keys, such as `model: ...`.")
    lines = Lines(str(path))
    for place, line in keys.lines.items():
        lines.add(place, line)
    return value, lines


class _UnreadableError(Exception):
    """Text that is not YAML."""

    def __init__(self, problem: str, line: int | None) -> None:
        self.problem = problem
        self.line = line
        super().__init__(problem)


class _Keys:
    """Keys of a document: their lines, and which stand there twice."""

    def __init__(self) -> None:
        self.lines: dict[Place, int] = {}
        self.doubled: list[tuple[Place, int, int]] = []
        self._visited: set[int] = set()
        self._open: set[int] = set()

    def collect(self, node: yaml.Node, place: Place) -> None:
        """Add the keys below a node."""
        if id(node) in self._open:
            mark = node.start_mark
            raise ComposerError(None, None, "this value holds itself", mark)
        # An alias is its anchor's node again: once is enough, however often it is named.
        if id(node) in self._visited:
            return
        self._visited.add(id(node))
        self._open.add(id(node))
        if isinstance(node, yaml.MappingNode):
            self._collect_mapping(node, place)
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.lines[*place, index] = _line(item)
                self.collect(item, (*place, index))
        self._open.discard(id(node))

    def _collect_mapping(self, node: yaml.MappingNode, place: Place) -> None:
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            name, line = str(key_node.value), _line(key_node)
            if name in seen:
                self.doubled.append(((*place, name), line, seen[name]))
                continue
            seen[name] = line
            self.lines[*place, name] = line
            self.collect(value_node, (*place, name))


def _parse(text: str) -> tuple[Any, _Keys]:
    keys = _Keys()
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None, keys
            keys.collect(node, ())
            return loader.construct_document(node), keys
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else None
        raise _UnreadableError(str(error.problem), line) from error
    except ReaderError as error:
        line = text.count("\n", 0, int(error.position)) + 1
        raise _UnreadableError(f"character {error.character!r} is not allowed", line) from error
    except RecursionError as error:
        raise _UnreadableError("it is nested too deep", None) from error


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1
