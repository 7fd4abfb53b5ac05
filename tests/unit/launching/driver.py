"""Launches rank.py: python driver.py RUN NUM_PROCESSES MAX_RESTARTS ACT..."""

from __future__ import annotations

import sys
from pathlib import Path

from sightline.launching import Launch, launch
from sightline.records import RunDirectory

run, num, restarts, *act = sys.argv[1:]
rank = [sys.executable, str(Path(__file__).with_name("rank.py")), run]


def again(has_begun: bool) -> list[str]:
    return [*rank, *act, f"again-{has_begun}"]


def tell(text: str) -> None:
    print(f"sightline: {text}", file=sys.stderr, flush=True)


what = Launch(
    command=[*rank, *act],
    again=again,
    num_processes=int(num),
    max_restarts=int(restarts),
    run=RunDirectory(Path(run)),
)
sys.exit(launch(what, tell))
