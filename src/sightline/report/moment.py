"""A run at this moment, as its live page shows it: read as little as has changed."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from sightline.records import RunDirectory, is_at_work
from sightline.report.facts import run_facts
from sightline.report.following import LineFollower
from sightline.report.growing import GrowingCurves
from sightline.report.live_figures import LiveFigures
from sightline.report.quantities import time_text
from sightline.report.run import RunRecords, load_run
from sightline.report.run_state import num_steps_of, run_state, waiting_state
from sightline.report.tower_charts import measure_title

NUM_NEW_LINES = 1000
"""A page that has missed more lines than this gets whole curves, thinned."""


class Cursor(NamedTuple):
    """What a page has seen.

    Attributes:
        generation: Of the curves.
        line: Lines of ``metrics.jsonl``.
    """

    generation: int
    line: int


class _Signature(NamedTuple):
    """Of a file: another one where its content may be another."""

    num_bytes: int
    written: int
    number: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Still:
    """What does not grow line by line.

    Attributes:
        known: The files when they were read.
        run: The records.
    """

    known: Mapping[str, _Signature]
    run: RunRecords


class FollowedRun:
    """A run directory that is looked at again and again.

    What has not changed is not read: of a run that stands still, only the sizes and times of its
    files. Safe to be used by several threads.

    Args:
        directory: The run directory; it need not be there yet.
        clock: Seconds since 1970, for tests.
    """

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        self._name = str(directory)
        self._run = RunDirectory(directory.resolve())
        self._clock = clock
        self._lock = threading.Lock()
        self._metrics = LineFollower(self._run.metrics)
        self._alarm_lines = LineFollower(self._run.alarms)
        self._curves = GrowingCurves()
        self._figures = LiveFigures()
        self._alarms: list[dict[str, Any]] = []
        self._faults: dict[str, list[str]] = {"metrics": [], "alarms": []}
        self._known: dict[str, _Signature] = {}
        self._still: _Still | None = None

    @property
    def name(self) -> str:
        """Name of the directory."""
        return self._run.path.name

    @property
    def path(self) -> Path:
        """The directory."""
        return self._run.path

    def version(self) -> str:
        """Another text where any file of the run was written, or its process ended.

        Of files only sizes and times are read.
        """
        return self._digest(self._signatures())

    def _digest(self, signatures: Mapping[str, _Signature]) -> str:
        told = repr((is_at_work(self._run.path), sorted(signatures.items()))).encode()
        return hashlib.blake2b(told, digest_size=12).hexdigest()

    def moment(self, since: Cursor | None = None) -> dict[str, Any]:
        """What the page shows, ready for JSON.

        Args:
            since: What the page has seen; curves have only what is new to it, where that is little.

        Raises:
            RunError: A file of the run is broken or cannot be read.
        """
        with self._lock:
            signatures = self._signatures()
            self._read_lines()
            return self._moment(self._read_still(signatures), signatures, since)

    def _moment(
        self, still: _Still | None, signatures: Mapping[str, _Signature], since: Cursor | None
    ) -> dict[str, Any]:
        run = still.run if still else None
        state = waiting_state(self._name)
        if still is not None:
            known = replace(still.run, alarms=self._alarms)
            state = run_state(known, step=self._figures.step, at_work=is_at_work(self._run.path))
        final = _final_measures(still)
        num_steps = num_steps_of(run) if run else None
        stages = ((run.plan if run else None) or {}).get("stages") or []
        newest = max((one.written for one in signatures.values()), default=None)
        age = None if newest is None else max(self._clock() - newest / 1e9, 0.0)
        is_going = state.kind == "going"
        return {
            "name": self._run.path.name,
            "version": self._digest(signatures),
            "state": asdict(state),
            "age_seconds": age,
            "quiet_after_seconds": self._figures.quiet_after if is_going else None,
            "progress": self._figures.progress(num_steps, age=age or 0.0, is_going=is_going),
            "figures": self._figures.table(stages),
            "measures": self._figures.measures() if final is None else final,
            "facts": _facts(run),
            "alarms": self._alarms,
            "faults": [fault for part in self._faults.values() for fault in part],
            "certificate": _certificate(run),
            "borders": [
                {"at": step, "name": _stage_name(stages, number)}
                for step, number in self._figures.borders
            ],
            "titles": {f"eval_{name}": measure_title(name) for name in self._figures.measured},
            "curves": self._new_points(since),
        }

    def _new_points(self, since: Cursor | None) -> dict[str, Any]:
        curves = self._curves
        is_whole = (
            since is None
            or since.generation != curves.generation
            or not 0 <= curves.num_lines - since.line <= NUM_NEW_LINES
        )
        points = curves.whole() if is_whole or since is None else curves.since(since.line)
        return {
            "generation": curves.generation,
            "line": curves.num_lines,
            "is_whole": is_whole,
            "points": points,
        }

    def _read_lines(self) -> None:
        has_more = True
        while has_more:
            growth = self._metrics.look()
            if growth.is_anew:
                self._curves.clear()
                self._figures = LiveFigures()
                self._faults["metrics"].clear()
            self._curves.add(growth.rows)
            self._figures.add(growth.rows)
            self._faults["metrics"] += growth.faults
            has_more = growth.has_more
        growth = self._alarm_lines.look()
        if growth.is_anew:
            self._alarms = []
            self._faults["alarms"].clear()
        self._alarms = [*self._alarms, *growth.rows]
        self._faults["alarms"] += growth.faults

    def _read_still(self, signatures: Mapping[str, _Signature]) -> _Still | None:
        """All records but those that grow; None before the first is there."""
        growing = self._run.metrics.name, self._run.alarms.name
        known = {name: one for name, one in signatures.items() if name not in growing}
        if not {self._run.state_file.name, self._run.config.name} & known.keys():
            self._still = None
        elif self._still is None or self._still.known != known:
            self._still = _Still(known=known, run=load_run(self._run.path, with_lines=False))
        return self._still

    def _signatures(self) -> dict[str, _Signature]:
        """Sizes and times of what a run writes, and of its checkpoints."""
        found: dict[str, _Signature] = {}
        for folder in (self._run.path, self._run.checkpoints):
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        # A file that is being written has a name of its own till it is whole.
                        if entry.name.startswith("."):
                            continue
                        stat = entry.stat(follow_symlinks=False)
                        found[entry.name] = _Signature(stat.st_size, stat.st_mtime_ns, stat.st_ino)
            except OSError:
                # Not there yet, or taken away between two calls.
                continue
        return found


def _facts(run: RunRecords | None) -> list[tuple[str, str]]:
    """What the page does not say elsewhere."""
    facts = run_facts(run) if run else ()
    return [(fact.name, fact.value) for fact in facts if fact.name != "State"]


def _stage_name(stages: Sequence[Mapping[str, Any]], number: int) -> str:
    return str(stages[number - 1].get("name") or number) if number <= len(stages) else str(number)


def _final_measures(still: _Still | None) -> list[dict[str, Any]] | None:
    """Measures of ``evaluation.json``, with their intervals; None where there is none."""
    if still is None or still.run.evaluation is None:
        return None
    found = []
    for one in still.run.evaluation.get("metrics") or ():
        before = one.get("before") or {}
        found.append(
            {
                "title": one["title"],
                "value": one["value"],
                "low": one["low"],
                "high": one["high"],
                "before": before.get("value"),
            }
        )
    return found


def _certificate(run: RunRecords | None) -> dict[str, Any] | None:
    if run is None or run.certificate is None:
        return None
    keys = ("id", "title", "holds", "measured", "tolerance", "detail", "advice")
    return {
        "created": time_text(run.certificate["created"]),
        "checks": [{key: check.get(key) for key in keys} for check in run.certificate["checks"]],
    }
