"""From a YAML file and overrides to a validated configuration."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from sightline.config.data import Source
from sightline.config.explain import explain, key_names
from sightline.config.read import Lines, Place, parse_value, read_yaml
from sightline.config.schema import RunConfig
from sightline.errors import ConfigError

_TINY_PREFIX = "tiny:"


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read and validate a configuration.

    Data paths, and a model that is a folder, are taken relative to the file; ``output`` relative
    to the working directory.

    Args:
        path: The YAML file.
        overrides: ``a.b=c`` each, the value read as YAML.

    Raises:
        ConfigError: Lists every fault with its line, what was given, and what to do.
    """
    values, lines = read_yaml(path)
    for override in overrides:
        _override(values, override, lines)
    try:
        config = RunConfig.model_validate(values)
    except ValidationError as error:
        faults = [_fault(fault, lines) for fault in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(faults))) from None
    return _resolved(config, path.resolve().parent)


def dump_config(config: RunConfig) -> str:
    """The configuration as YAML with every key; it loads back to an equal one."""
    return yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True)


def _override(values: dict[str, Any], override: str, lines: Lines) -> None:
    name, separator, text = override.partition("=")
    if not separator or not name.strip():
        raise ConfigError(f"--set {override}: write KEY=VALUE, for example training.epochs=1.")
    place = tuple(name.strip().split("."))
    section = values
    for part in place[:-1]:
        inner = section.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {override}: {part} is not a section with keys below it.")
        section = inner
    try:
        section[place[-1]] = parse_value(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value is not YAML: {error}.") from error


def _fault(fault: Any, lines: Lines) -> str:
    place: Place = fault["loc"]
    dotted = _dotted(place)
    where = lines.where(place)
    if fault["type"] == "extra_forbidden":
        return f"{where}: {dotted}: there is no such key.{_suggestion(dotted)}"
    if fault["type"] == "missing":
        return f"{where}: {dotted}: this key is missing. {_meaning(dotted)}".rstrip()
    if fault["type"] == "value_error":
        text = str(fault["ctx"]["error"])
        return f"{where}: {dotted}: {text}." if dotted else f"{where}: {text}."
    return f"{where}: {dotted}: {fault['input']!r} is given. {fault['msg']}."


def _dotted(place: Place) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _suggestion(dotted: str) -> str:
    """The nearest key: by its whole name, or by its last part in another section."""
    names = key_names()
    last = dotted.rsplit(".", 1)[-1]
    same = [name for name in names if name.rsplit(".", 1)[-1] == last]
    near = difflib.get_close_matches(dotted, names, n=1, cutoff=0.6)
    by_last = {name.rsplit(".", 1)[-1]: name for name in reversed(names)}
    loose = difflib.get_close_matches(last, by_last, n=1, cutoff=0.7)
    found = same[:1] or near or [by_last[name] for name in loose]
    if not found:
        return " `sightline config --explain` lists all keys."
    return f" Did you mean `{found[0]}`?"


def _meaning(dotted: str) -> str:
    return next((row.meaning for row in explain() if row.key == dotted), "")


def _resolved(config: RunConfig, folder: Path) -> RunConfig:
    data = config.data.model_copy(
        update={
            "train": [_absolute(source, folder) for source in config.data.train],
            "eval": [_absolute(source, folder) for source in config.data.eval],
        }
    )
    return config.model_copy(
        update={
            "model": _model(config.model, folder),
            "data": data,
            "output": str(Path(config.output).expanduser()),
        }
    )


def _absolute(source: Source, folder: Path) -> Source:
    root = source.media_root
    return source.model_copy(
        update={
            "path": _joined(source.path, folder),
            "media_root": None if root is None else _joined(root, folder),
        }
    )


def _model(model: str, folder: Path) -> str:
    if model.startswith(_TINY_PREFIX):
        return model
    beside = Path(_joined(model, folder))
    # A hub id looks like a relative path: it is one only where that folder is.
    looks_local = model.startswith((".", "~", "/"))
    return str(beside) if looks_local or beside.is_dir() else model


def _joined(path: str, folder: Path) -> str:
    # normpath, not resolve: a link into a data disk keeps the name the user gave it.
    expanded = Path(path).expanduser()
    whole = expanded if expanded.is_absolute() else folder / expanded
    return str(Path(*_without_dots(whole)))


def _without_dots(path: Path) -> list[str]:
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and len(parts) > 1:
            parts.pop()
        elif part != ".":
            parts.append(part)
    return parts
