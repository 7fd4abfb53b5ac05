"""``sightline import``: another tool's configuration as a run.yaml, key by key."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.cli.console import make_console, user_errors
from sightline.errors import ConfigError

if TYPE_CHECKING:
    from sightline.interop.imported import Imported

TOOLS = ("llamafactory", "swift", "official")


def import_command(
    tool: str, config: Path, *, output: Path, datasets: Path | None, overwrite: bool
) -> int:
    """Read a configuration of another tool, say what became of every key, and write run.yaml.

    Args:
        tool: ``llamafactory``, ``swift`` or ``official``.
        config: The other tool's file.
        output: The run.yaml to write.
        datasets: The Python file with the data sets of ``official``; for that tool alone.
        overwrite: Whether a file that is there already may be replaced.
    """
    console = make_console()
    with user_errors():
        from sightline.interop.imported import render_yaml
        from sightline.records import write_text
        from sightline.report.imported import imported_report, imported_summary

        _refuse_taken(output, overwrite)
        imported = _imported(tool, config, output.parent, datasets)
        write_text(output, render_yaml(imported))
        console.print(imported_report(imported))
        console.print(imported_summary(imported), markup=False, style="bold")
        console.print(f"run.yaml  {output}", markup=False, soft_wrap=True)
        return 0


def _imported(tool: str, config: Path, folder: Path, datasets: Path | None) -> Imported:
    from sightline.interop.llamafactory_config import import_llamafactory
    from sightline.interop.official import import_official
    from sightline.interop.swift import import_swift

    if datasets is not None and tool in TOOLS and tool != "official":
        raise ConfigError(
            f"--datasets {datasets}: {tool} names its data sets in {config} itself.\n"
            "Leave --datasets out; it belongs to official."
        )
    if tool == "llamafactory":
        return import_llamafactory(config, folder=folder)
    if tool == "swift":
        return import_swift(config, folder=folder)
    if tool == "official":
        return import_official(config, folder=folder, datasets=datasets)
    near = difflib.get_close_matches(tool, TOOLS, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ConfigError(f"{tool}: configurations of {', '.join(TOOLS)} are read.{hint}")


def _refuse_taken(output: Path, overwrite: bool) -> None:
    if output.is_dir():
        raise ConfigError(f"--output {output}: it is a folder. Name the file, such as run.yaml.")
    if os.path.lexists(output) and not overwrite:
        raise ConfigError(
            f"{output}: the file is there already.\n"
            "Name another with --output, or replace it with --overwrite."
        )
