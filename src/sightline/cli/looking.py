"""Options of `sightline watch` and `sightline compare`. Imports what it needs when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def watch(
    run: Annotated[Path, typer.Argument(help="A run directory; it need not be there yet.")],
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port of the page; 8765 or the next free one if none."),
    ] = None,
    opens: Annotated[bool, typer.Option("--open", help="Open a browser on it.")] = False,
) -> None:
    """Show a run on a live page while it trains: curves, alarms, time left, then the verdict."""
    from sightline.cli.watch import watch_command

    raise SystemExit(watch_command(run, port=port, opens=opens))


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Run directories.")],
    output: Annotated[
        Path | None, typer.Option(help="Also write one page with all curves, an HTML file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Show runs side by side: what differs, losses, measures, cost, and what is proven."""
    from sightline.cli.compare import compare_command

    raise SystemExit(compare_command(runs, output=output, as_json=as_json))


def add_looking(app: typer.Typer) -> None:
    """Give the program both commands.

    Args:
        app: The program.
    """
    app.command()(watch)
    app.command()(compare)
