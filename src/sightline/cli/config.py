"""``sightline config``: what a run is made of, and what every key means."""

from __future__ import annotations

import textwrap
from pathlib import Path

from sightline.cli.console import user_errors
from sightline.config import dump_config, explain, load_config
from sightline.errors import ConfigError

_WIDTH = 78


def config_command(path: Path | None, *, explain: bool, overrides: list[str]) -> int:
    """Show a resolved configuration, or explain every key."""
    with user_errors():
        if explain:
            print(explanation())
            return 0
        if path is None:
            raise ConfigError("name a configuration file, or use --explain.")
        print(dump_config(load_config(path, overrides)), end="")
        return 0


def explanation() -> str:
    """Every key as text, 80 columns wide."""
    lines: list[str] = []
    for row in explain():
        unit = f", {row.unit}" if row.unit else ""
        lines.append(f"{row.key}  ({row.type}{unit}; default {row.default})")
        lines.extend(
            textwrap.wrap(row.meaning, _WIDTH - 4, initial_indent="    ", subsequent_indent="    ")
        )
    return "\n".join(lines)
