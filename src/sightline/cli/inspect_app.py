"""The commands of ``sightline inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.options import Overrides

inspect_app = typer.Typer(help="Look at what training would see.", no_args_is_help=True)


@inspect_app.command("positions")
def inspect_positions(
    config: Annotated[
        Path | None, typer.Argument(help="A run configuration: one of its samples is drawn.")
    ] = None,
    sample: Annotated[int, typer.Option(help="Which training sample, from 0.")] = 0,
    family: Annotated[str | None, typer.Option(help="A model_type, with --layout.")] = None,
    layout: Annotated[
        str | None, typer.Option(help='Instead of data: "8 image:1x16x24 video:30x16x24@1.0 5".')
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Also draw a picture, a PNG.")] = None,
    overrides: Overrides = None,
) -> None:
    """Draw time, height and width positions over a sample's tokens."""
    from sightline.cli.inspect import positions_command

    raise SystemExit(
        positions_command(
            config,
            sample=sample,
            family=family,
            layout=layout,
            output=output,
            overrides=overrides or [],
        )
    )


@inspect_app.command("model")
def inspect_model(
    model: Annotated[str, typer.Argument(help="A folder with config.json, a hub id, tiny:FAMILY.")],
    plan: Annotated[
        Path | None, typer.Option(help="A run configuration: what its tuning does to the model.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
    overrides: Overrides = None,
) -> None:
    """Draw a model: towers and blocks, what trains in each, how, when, and what it takes."""
    from sightline.cli.inspect_model import model_command

    raise SystemExit(model_command(model, plan=plan, overrides=overrides or [], as_json=as_json))
