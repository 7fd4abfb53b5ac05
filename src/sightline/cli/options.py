"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def keys_that_begin(incomplete: str) -> list[str]:
    """Keys of the configuration for a shell that completes ``--set``."""
    from sightline.config import key_names

    return [f"{name}=" for name in key_names() if name.startswith(incomplete)]


ConfigPath = Annotated[Path, typer.Argument(help="The run configuration, a YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key: training.epochs=1.",
        autocompletion=keys_that_begin,
    ),
]

Processes = Annotated[
    int, typer.Option(min=1, help="Processes on this machine, each with its own GPU or cores.")
]
MaxRestarts = Annotated[
    int,
    typer.Option(min=0, help="Start again so often after a crash, from the newest checkpoint."),
]
Sarif = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Also write what was found as SARIF, for CI."),
]
