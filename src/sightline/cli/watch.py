"""``sightline watch``: a run on a live page, for this machine alone."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

from sightline.cli.console import make_console, user_errors
from sightline.errors import Interrupted, RunError
from sightline.records import RunDirectory


def watch_command(directory: Path, *, port: int | None, opens: bool) -> int:
    """Serve the live page of a run until Ctrl-C; 0.

    Args:
        directory: The run directory; it need not be there yet.
        port: The port; None for the first that is free.
        opens: Whether a browser is opened.
    """
    with user_errors():
        _refuse_other(directory)
        # It brings the templates with it.
        from sightline.report.moment import FollowedRun
        from sightline.report.watch_server import serving

        try:
            with serving(FollowedRun(directory), port) as found:
                _tell(directory, found)
                if opens:
                    _open(f"http://127.0.0.1:{found}/")
                threading.Event().wait()
        except Interrupted:
            raise
        except KeyboardInterrupt:
            make_console().print("\nNo longer watched. The run is not concerned.")
    return 0


def _tell(directory: Path, port: int) -> None:
    waits = "" if directory.is_dir() else " (not there yet)"
    lines = (
        f"run     {directory}{waits}",
        f"page    http://127.0.0.1:{port}/",
        "        for this machine alone; from another, open the same address there after",
        f"        ssh -L {port}:127.0.0.1:{port} {socket.gethostname()}",
        "Ctrl-C ends the watching, not the run.",
    )
    make_console().print("\n".join(lines), markup=False, soft_wrap=True)


def _open(address: str) -> None:
    import webbrowser

    if not webbrowser.open(address):
        make_console().print("No browser was found: open the address yourself.")


def _refuse_other(directory: Path) -> None:
    """Refuse what is there and can never become the run.

    Raises:
        RunError: A file, or a folder of something else.
    """
    if directory.exists() and not directory.is_dir():
        raise RunError(
            f"{directory}: this is a file.\n"
            "Name the run directory: the folder that `output` of the configuration names."
        )
    if not directory.is_dir() or any(
        (directory / name).is_file() for name in ("run.json", "config.yaml")
    ):
        return
    runs = sorted(state.parent.name for state in directory.glob("*/run.json"))
    if runs:
        shown = ", ".join(runs[:5]) + (f" and {len(runs) - 5} more" if len(runs) > 5 else "")
        raise RunError(
            f"{directory}: this is a folder of {len(runs)} runs: {shown}.\n"
            f"Name one of them: sightline watch {directory / runs[0]}"
        )
    # An empty one is what a run begins in; it says what else is in the way.
    RunDirectory.refuse_occupied(directory)
