"""From a YAML file and overrides to a validated configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sightline.config.faults import describe
from sightline.config.read import Lines, dump_yaml, parse_value, read_yaml
from sightline.config.schema import RunConfig
from sightline.config.sources import Source
from sightline.config.tuning import TOWER_NAMES
from sightline.errors import ConfigError

_TINY_PREFIX = "tiny:"


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read and validate a configuration.

    Data paths, and a model that is a folder, are taken relative to the file; ``output`` relative
    to the working directory.

    Args:
        path: The YAML file.
        overrides: ``a.b=c`` each, the value read as YAML.

    Raises:
        ConfigError: Lists every fault with its line, what was given, and what to do.
    """
    path = Path(path)
    values, lines = read_yaml(path)
    return _validated(values, lines, path.resolve().parent, overrides)


def config_of(values: dict[str, Any], folder: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Validate a configuration that stands in no file.

    Args:
        values: Its sections and keys.
        folder: Where paths of data start.
        overrides: As of `load_config`.

    Raises:
        ConfigError: As `load_config`.
    """
    return _validated(values, Lines("the command line"), folder.resolve(), overrides)


def _validated(
    values: dict[str, Any], lines: Lines, folder: Path, overrides: Sequence[str]
) -> RunConfig:
    for override in overrides:
        _override(values, override, lines)
    try:
        config = RunConfig.model_validate(values)
    except ValidationError as error:
        faults = [describe(fault, lines) for fault in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(faults))) from None
    return _resolved(config, folder)


def dump_config(config: RunConfig) -> str:
    """The configuration as YAML with every key; it loads back to an equal one."""
    return dump_yaml(config.model_dump())


def _override(values: dict[str, Any], override: str, lines: Lines) -> None:
    name, separator, text = override.partition("=")
    place = tuple(name.strip().split("."))
    if not separator or not all(place):
        raise ConfigError(f"--set {override}: write KEY=VALUE, for example training.epochs=1.")
    section = values
    for part in place[:-1]:
        # A section whose keys are all commented out is null in YAML.
        inner = {} if section.get(part) is None else section[part]
        if place[0] == "tuning" and part in TOWER_NAMES and isinstance(inner, str):
            inner = {"mode": inner}
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {override}: {part} is not a section with keys below it.")
        # A copy: two sections that share a YAML anchor are one object.
        section[part] = dict(inner)
        section = section[part]
    try:
        section[place[-1]] = parse_value(text)
    except ConfigError as error:
        raise ConfigError(f"--set {override}: {error}") from error
    lines.override(place, override)


def _resolved(config: RunConfig, folder: Path) -> RunConfig:
    index, cache = config.data.index_folder, config.data.patch_cache
    data = config.data.model_copy(
        update={
            "train": [_absolute(source, folder) for source in config.data.train],
            "eval": [_absolute(source, folder) for source in config.data.eval],
            "index_folder": None if index is None else str(_expanded(index)),
            "patch_cache": None if cache is None else str(_expanded(cache)),
        }
    )
    return config.model_copy(
        update={
            "model": _model(config.model, folder),
            "data": data,
            "output": str(_expanded(config.output)),
        }
    )


def _absolute(source: Source, folder: Path) -> Source:
    root = source.media_root
    return source.model_copy(
        update={
            "path": None if source.path is None else _joined(source.path, folder),
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
    expanded = _expanded(path)
    if expanded.is_absolute():
        return str(expanded)
    # Only leading dots are folded, for the folder holds no link. A link further on keeps the name
    # that the user gave it, and what ".." means behind it is for the system to say.
    parts = list(expanded.parts)
    while parts and parts[0] == "..":
        folder = folder.parent
        del parts[0]
    return str(folder.joinpath(*parts))


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{path}: there is no home folder of that name. Write it out.") from error
