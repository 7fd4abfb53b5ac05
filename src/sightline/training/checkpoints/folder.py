"""The checkpoints of a run: which there are, which is the newest good one, which go."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from sightline.errors import RunError
from sightline.records import read_json, writing
from sightline.records.atomic import remove
from sightline.training.checkpoints.manifest import fault_of

STATE = "state.json"
PREFIX = "checkpoint-"
_NAME = re.compile(r"checkpoint-(\d+)")
# What `atomic_directory` builds in, and what it puts aside.
_BESIDE = re.compile(r"\.(.+)\.[0-9a-f]{8}")


class Found(NamedTuple):
    """A checkpoint that can be gone on from.

    Attributes:
        path: Its folder.
        step: Steps done.
        state: Its ``state.json``.
    """

    path: Path
    step: int
    state: dict[str, Any]


def folder_of(checkpoints: Path, step: int) -> Path:
    """Where the checkpoint of a step stands."""
    return checkpoints / f"{PREFIX}{step}"


def checkpoints_in(checkpoints: Path) -> list[tuple[int, Path]]:
    """Steps and folders of all checkpoints, whole or not, the oldest first."""
    if not checkpoints.is_dir():
        return []
    named = ((_NAME.fullmatch(path.name), path) for path in checkpoints.iterdir())
    return sorted((int(name[1]), path) for name, path in named if name is not None)


def newest_good(
    checkpoints: Path,
    *,
    note: Callable[[str], None],
    foreign: Callable[[dict[str, Any]], str | None] = lambda state: None,
) -> Found | None:
    """The newest checkpoint that is whole; what is passed over is named.

    Every file is read and its digest compared.

    Args:
        checkpoints: The run's folder of checkpoints.
        note: Told of each that cannot be used, and why.
        foreign: Told the ``state.json`` of one that is whole; says why it is not of this run.

    Returns:
        None where the run has no checkpoint yet.

    Raises:
        RunError: There are some, and none can be used.
    """
    faults: list[str] = []
    for step, path in reversed(checkpoints_in(checkpoints)):
        try:
            fault = fault_of(path)
            state = {} if fault is not None else read_json(path / STATE)
            fault = fault or foreign(state)
        except (RunError, KeyError, TypeError) as error:
            fault, state = str(error), {}
        if fault is None:
            for told in faults:
                note(f"{told}\nThe one of step {step} is whole: the run goes on from there.")
            return Found(path, step, state)
        faults.append(f"{path} cannot be used: {fault}.")
    if faults:
        raise RunError(
            "\n".join(faults)
            + f"\nNo checkpoint of this run can be used. Put one back into {checkpoints}, or start "
            "the run anew with --overwrite."
        )
    return None


def clear_leftovers(folder: Path) -> None:
    """Take away what killed processes left while they wrote.

    A checkpoint that was whole, and lacked its name alone, gets it.

    Args:
        folder: The run directory, or its folder of checkpoints.

    Raises:
        RunError: The file system refuses.
    """
    if not folder.is_dir():
        return
    with writing(folder):
        for path in sorted(folder.iterdir()):
            name = _BESIDE.fullmatch(path.name)
            if name is None:
                continue
            place = folder / name[1]
            is_lost = _NAME.fullmatch(place.name) is not None and not place.exists()
            if is_lost and fault_of(path) is None:
                path.rename(place)
            else:
                remove(path)


def rotate(checkpoints: Path, *, step: int, num_kept: int | None, best: int | None) -> None:
    """Remove the oldest checkpoints.

    Those of later steps than the present one stay: they are not of this course of the run, and
    are written anew when it gets there.

    Args:
        checkpoints: The run's folder of checkpoints.
        step: The present step; its checkpoint stays.
        num_kept: How many stay beside the best; None for all.
        best: Step of the best one; None where none is.
    """
    if num_kept is None:
        return
    old = [
        (number, path)
        for number, path in checkpoints_in(checkpoints)
        if number <= step and number != best
    ]
    for _, path in old[: max(len(old) - max(num_kept, 1), 0)]:
        # Out of sight first: a kill while it is removed leaves no half a checkpoint.
        shutil.rmtree(_hidden(path))


def _hidden(path: Path) -> Path:
    hidden = path.with_name(f".{path.name}.{0:08x}")
    if hidden.exists():
        shutil.rmtree(hidden)
    return path.rename(hidden)
