"""``sightline train --ray``: the same run, its processes being workers of Ray Train."""

from __future__ import annotations

from pathlib import Path

from sightline.config import RunConfig
from sightline.errors import RunError
from sightline.training.parallel.on_ray import work_on_ray


def train_on_ray(
    config: RunConfig,
    *,
    address: str,
    processes: int,
    max_restarts: int,
    resume: bool,
    overwrite: bool,
) -> None:
    """Train on workers of Ray; the first of them says what happens.

    Args:
        config: What is trained.
        address: ``local``, ``auto``, or where a cluster is.
        processes: Workers.
        max_restarts: Has to be 0.
        resume: Go on from the newest checkpoint.
        overwrite: Replace a finished run of the same directory.

    Raises:
        SightlineError: What ended the run.
    """
    if max_restarts:
        raise RunError(
            f"--max-restarts {max_restarts} beside --ray: only processes of our own are started "
            "again.\nLeave it out; sightline resume goes on with a run that was ended."
        )

    def work() -> None:
        from sightline.cli.console import make_console
        from sightline.cli.train import train_quietly

        train_quietly(config, make_console(), resume=resume, overwrite=overwrite)

    output = Path(config.output)
    storage = output.with_name(f"{output.name}.ray")
    work_on_ray(work, num_processes=processes, address=address, storage=storage)
