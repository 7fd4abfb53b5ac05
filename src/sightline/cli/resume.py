"""``sightline resume``: a run that was ended goes on from its newest good checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

from sightline.cli.console import EXIT_NOT_PROVEN, make_console, user_errors
from sightline.cli.train import train_command, verify_in_fresh_process
from sightline.config import load_config
from sightline.records import RunDirectory


def resume_command(
    directory: Path, overrides: list[str], *, processes: int = 1, max_restarts: int = 0
) -> int:
    """Go on with a run as it is configured, then verify and report as `train_command` does.

    Args:
        directory: The run directory; it may have been moved.
        overrides: Keys that may be others, ``training.save_every=10``.
        processes: Processes on this machine.
        max_restarts: How often the processes are started again.

    Returns:
        0 where everything is proven, 1 where it is not.
    """
    # A path is read as YAML there, and may hold what means something in it.
    overrides = [*overrides, f"output={json.dumps(str(directory))}"]
    with user_errors():
        run = RunDirectory.open(directory)
        config = load_config(run.config, overrides)
        state = run.read_state()
        print_ = make_console().print
        done = f"{directory}: the run is finished after {state.get('steps')} steps"
        if state["state"] == "failed":
            print_(f"{done}, and not proven: sightline verify {directory} says why.", markup=False)
            return EXIT_NOT_PROVEN
        if state["state"] == "verified" or (
            state["state"] == "trained" and not config.verify.enabled
        ):
            print_(f"{done}. There is nothing to go on with.", markup=False)
            return 0
        if state["state"] == "trained":
            print_(f"{done}, and was not verified yet.", markup=False)
            return verify_in_fresh_process(directory)
    return train_command(
        run.config,
        overrides,
        resume=True,
        overwrite=False,
        processes=processes,
        max_restarts=max_restarts,
    )
