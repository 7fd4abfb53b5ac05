"""From a run directory to the checkpoint that a run goes on from."""

from __future__ import annotations

from collections.abc import Callable

from sightline.config import RunConfig, load_config
from sightline.errors import RunError
from sightline.records import RunDirectory
from sightline.training.checkpoints.changes import (
    foreign_to,
    refuse_other_configuration,
    refuse_other_origin,
)
from sightline.training.checkpoints.folder import (
    Found,
    checkpoints_in,
    clear_leftovers,
    newest_good,
)
from sightline.training.checkpoints.origin import Origin
from sightline.training.ranks import from_first, this_rank, together


def refuse_changed_keys(run: RunDirectory, config: RunConfig) -> None:
    """Refuse a configuration that would train otherwise, before anything of it is read.

    A run without a checkpoint begins anew, with any configuration.

    Args:
        run: The run directory.
        config: The configuration with which it is to go on.

    Raises:
        RunError: It names every key with both values.
    """
    if checkpoints_in(run.checkpoints) and run.config.is_file():
        then = load_config(run.config).model_dump(mode="json")
        refuse_other_configuration(then, config.model_dump(mode="json"), str(run.path))


def go_on_from(run: RunDirectory, origin: Origin, note: Callable[[str], None]) -> Found | None:
    """Find the checkpoint to go on from, and forget what came after it. All processes have to ask.

    Args:
        run: The run directory.
        origin: What the run is started from now.
        note: Told what is passed over, and what is otherwise than before.

    Returns:
        None where the run has no checkpoint yet, and begins anew.

    Raises:
        RunError: No checkpoint can be used, or the run would not be the same.
    """
    found: Found | None = None
    with together():
        if this_rank() == 0:
            found = _found(run, origin, note)
    return from_first(found)


def _found(run: RunDirectory, origin: Origin, note: Callable[[str], None]) -> Found | None:
    clear_leftovers(run.path)
    clear_leftovers(run.checkpoints)
    found = newest_good(
        run.checkpoints, note=note, foreign=lambda state: foreign_to(origin.config, state)
    )
    if found is None:
        note("The run was ended before its first checkpoint: it begins anew, at step 0.")
        run.forget_steps_after(0)
        return None
    try:
        then = Origin.read(found.state["origin"])
    except (KeyError, TypeError) as error:
        raise RunError(f"{found.path}: state.json is broken: {error}.") from error
    for told in refuse_other_origin(then, origin, str(run.path)):
        note(told)
    run.forget_steps_after(found.step, is_evaluated=not found.state["evaluation_due"])
    return found
