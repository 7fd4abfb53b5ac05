"""``sightline rehearse``: a few samples learned by heart, exported, and answered exactly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from sightline.cli.console import EXIT_NOT_PROVEN, make_console, quiet_libraries, user_errors
from sightline.cli.train import TerminalObserver
from sightline.config import RunConfig, load_config, rehearsal_config
from sightline.errors import (
    ConfigError,
    DataError,
    DivergedError,
    LayoutError,
    LeakError,
    PlanError,
    RunError,
    SightlineError,
    StoppedError,
)
from sightline.launching import is_launched, without_ranks
from sightline.records import RunDirectory, read_json, write_json
from sightline.report.rehearsal import failure_lines, rehearsal_report, verdict_line

MAX_SAMPLES = 64
RECORD = "rehearsal.json"
# At which joint an error of the training ends the rehearsal.
_JOINTS: tuple[tuple[type[SightlineError], str], ...] = (
    (DataError, "data"),
    (LayoutError, "positions"),
    (LeakError, "packing"),
    (PlanError, "plan"),
    (DivergedError, "loss"),
)


def rehearse_command(
    path: Path,
    overrides: list[str],
    *,
    num_samples: int,
    max_steps: int,
    output: Path | None,
    as_json: bool,
) -> int:
    """Rehearse a configuration; 0 where every joint holds, 1 where one fails."""
    with user_errors():
        config = load_config(path, overrides)
        folder = output or Path(f"{config.output}-rehearsal")
        _refuse_impossible(config, folder, num_samples)
        console = make_console(stderr=as_json)
        rehearsed = rehearsal_config(
            config, num_samples=num_samples, max_steps=max_steps, output=str(folder)
        )
        record = {"configuration": str(path), **_rehearse(rehearsed, console)}
        write_json(folder / RECORD, record)
        if as_json:
            json.dump(record, sys.stdout, ensure_ascii=False, indent=2)
            print()
        else:
            _show(record, folder, console)
    return 0 if record["verdict"] == "holds" else EXIT_NOT_PROVEN


def _refuse_impossible(config: RunConfig, folder: Path, num_samples: int) -> None:
    """Refuse a number that is none to learn by heart, and a folder of anything but a rehearsal."""
    if not 1 <= num_samples <= MAX_SAMPLES:
        raise ConfigError(
            f"--samples {num_samples}: a rehearsal learns 1 to {MAX_SAMPLES} samples by heart; 3 "
            "to 8 are usual."
        )
    if is_launched(os.environ):
        raise RunError(
            "RANK is in the environment, and a rehearsal runs in one process.\n"
            "Start it without torchrun or another launcher."
        )
    if folder.absolute() == Path(config.output).absolute():
        raise RunError(
            f"{folder}: that is the output of the run itself.\nChoose another with --output."
        )
    state = RunDirectory(folder).state_file
    if state.is_file() and "rehearsal" in read_json(state):
        return
    try:
        RunDirectory.refuse_occupied(folder)
    except RunError:
        raise RunError(
            f"{folder}: something is there that is no rehearsal.\nChoose another with --output."
        ) from None


def _rehearse(config: RunConfig, console: Console) -> dict[str, Any]:
    """Train, export, verify in a fresh process, and look at every joint."""
    quiet_libraries()
    from sightline.checks.joints import broken
    from sightline.checks.rehearsal import rehearsal_record
    from sightline.training import Rehearsal, train

    max_steps = config.training.max_steps
    assert max_steps is not None, "rehearsal_config sets it"
    rehearsal = Rehearsal(num_samples=config.verify.samples, max_steps=max_steps)
    observer, joint = TerminalObserver(console), None
    try:
        train(config, observer, overwrite=True, rehearsal=rehearsal)
    except StoppedError as error:
        raise StoppedError(
            f"{config.output}: the rehearsal was stopped. Start it again: it begins anew.",
            exit_code=error.exit_code,
        ) from None
    except SightlineError as error:
        name = next((name for kind, name in _JOINTS if isinstance(error, kind)), None)
        # Before anything is written, and what is no joint's fault, such as a full disk.
        if name is None or rehearsal.begun is None:
            raise
        joint = broken(name, str(error))
    finally:
        observer.close()
    begun = rehearsal.begun
    assert begun is not None
    if joint is None and (told := _verify(begun.run, console)):
        joint = broken("reload", told)
    return rehearsal_record(
        begun.run, begun.checkpoint, begun.data.train, begun.everything.train, broken=joint
    )


def _verify(run: RunDirectory, console: Console) -> str:
    """``sightline verify`` in a fresh process; what it said where it could not finish."""
    with console.status("loading the exported model afresh"):
        done = subprocess.run(
            [sys.executable, "-m", "sightline", "verify", str(run.path)],
            check=False,
            capture_output=True,
            text=True,
            env=without_ranks(os.environ),
        )
    if done.returncode in (0, EXIT_NOT_PROVEN) and run.certificate.is_file():
        return ""
    return done.stderr.strip().removeprefix("sightline: ") or "the verification ended unheard"


def _show(record: dict[str, Any], folder: Path, console: Console) -> None:
    console.print(rehearsal_report(record))
    for joint in record["joints"]:
        if joint["state"] == "failed":
            # Not wrapped: a path that is broken over lines cannot be copied.
            for line in failure_lines(joint):
                console.print(line, markup=False, soft_wrap=True)
    console.print(verdict_line(record))
    console.print(f"record  {folder / RECORD}", soft_wrap=True)
