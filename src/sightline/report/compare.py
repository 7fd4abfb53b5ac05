"""Runs side by side, as a record: what each came to, and in what they differ."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.errors import RunError
from sightline.report.curves import Points
from sightline.report.facts import verdict_of
from sightline.report.run import RunRecords, load_run
from sightline.report.tower_charts import measure_title

SCHEMA = 1


def load_runs(directories: Sequence[Path]) -> list[RunRecords]:
    """Read the runs that are compared.

    Raises:
        RunError: Fewer than two, one of them twice, one that is no run, or a file that is broken.
    """
    if len(directories) < 2:
        given = f": {directories[0]}" if directories else ""
        raise RunError(
            f"{len(directories)} run directory was named{given}, and a comparison takes two at "
            "least.\nName the others: sightline compare RUN RUN"
        )
    known: dict[Path, Path] = {}
    for directory in directories:
        path = directory.resolve()
        if path in known:
            raise RunError(
                f"{directory}: the same run directory as {known[path]}: it was named twice.\n"
                "Name each run once."
            )
        known[path] = directory
    return [load_run(directory) for directory in directories]


def compare_record(runs: Sequence[RunRecords]) -> dict[str, Any]:
    """What ``sightline compare --json`` prints.

    Args:
        runs: Two or more.
    """
    names = short_names([run.path for run in runs])
    common = _common_step([run.curve.loss for run in runs])
    fingerprints = [(run.state.get("data") or {}).get("fingerprint") for run in runs]
    return {
        "schema": SCHEMA,
        "runs": [_run(run, name, common) for run, name in zip(runs, names, strict=True)],
        "common_step": common,
        "data": {
            "fingerprints": fingerprints,
            "same": None if None in fingerprints else len(set(fingerprints)) == 1,
        },
        "configuration": _differences("", [_without_place(run.config) for run in runs]),
        "versions": _differences("", [run.state.get("versions") or {} for run in runs]),
    }


def short_names(paths: Sequence[Path]) -> list[str]:
    """Names of folders, with as many of the folders above as tell them apart.

    >>> short_names([Path("/a/first"), Path("/a/second")])
    ['first', 'second']
    >>> short_names([Path("/a/x/run"), Path("/a/y/run"), Path("/a/y/other")])
    ['x/run', 'y/run', 'other']
    """
    names = []
    for path in paths:
        length = 1
        while length < len(path.parts) and any(
            other != path and other.parts[-length:] == path.parts[-length:] for other in paths
        ):
            length += 1
        names.append(Path(*path.parts[-length:]).as_posix())
    return names


def _run(run: RunRecords, name: str, common: float | None) -> dict[str, Any]:
    state, curve = run.state, run.curve
    planned = ((run.plan or {}).get("schedule") or {}).get("num_steps")
    verdict = verdict_of(run)
    return {
        "name": name,
        "path": str(run.path),
        "state": state.get("state"),
        "verdict": {"kind": verdict.kind, "title": verdict.title},
        "failing": [check["id"] for check in verdict.failing],
        "alarms": _alarms(run),
        "model": state.get("model") or run.config.get("model"),
        "family": run.family_title,
        "device": state.get("device"),
        "started": state.get("started"),
        "steps": _last_step(run),
        "planned_steps": planned,
        "loss": _course(curve.loss) | {"at_common_step": _value_at(curve.loss, common)},
        "held_out_loss": _course(curve.evaluation),
        "measures": _measures(run),
        "seconds": _seconds(run),
        "tokens_per_second": _median(run.watched.tokens),
        "peak_memory_mib": max((value for _, value in run.watched.memory), default=None),
        "trainable": _trainable(run.plan),
        "samples": (state.get("data") or {}).get("input"),
    }


def _last_step(run: RunRecords) -> int | None:
    steps = run.state.get("steps")
    if steps is None and run.curve.loss:
        steps = run.curve.loss[-1][0]
    return None if steps is None else int(steps)


def _course(points: Points) -> dict[str, Any]:
    """Where a curve ends, and its lowest point."""
    if not points:
        return {"final": None, "lowest": None}
    lowest = min(points, key=lambda point: point[1])
    return {"final": _point(points[-1]), "lowest": _point(lowest)}


def _point(point: tuple[float, float]) -> dict[str, Any]:
    return {"step": int(point[0]), "value": point[1]}


def _common_step(curves: Sequence[Points]) -> float | None:
    """The last step that every run logged, where they did not all end at one."""
    logged = [{step for step, _ in points} for points in curves if points]
    if len(logged) < 2 or len({max(steps) for steps in logged}) == 1:
        return None
    return max(set.intersection(*logged), default=None)


def _value_at(points: Points, step: float | None) -> float | None:
    return dict(points).get(step) if step is not None else None


def _measures(run: RunRecords) -> list[dict[str, Any]]:
    """Measures of ``evaluation.json`` with their intervals, else the last while it trained."""
    if run.evaluation is not None:
        keys = ("name", "title", "value", "low", "high", "num")
        return [
            {key: one.get(key) for key in keys} | {"step": None}
            for one in run.evaluation.get("metrics") or ()
        ]
    return [
        {
            "name": name,
            "title": measure_title(name),
            "value": points[-1][1],
            "low": None,
            "high": None,
            "num": None,
            "step": int(points[-1][0]),
        }
        for name, points in run.watched.measures.items()
        if points
    ]


def _alarms(run: RunRecords) -> list[dict[str, Any]]:
    counts = Counter(str(alarm["id"]) for alarm in run.alarms)
    return [
        {
            "id": name,
            "num": num,
            "first_step": min(alarm["step"] for alarm in run.alarms if alarm["id"] == name),
        }
        for name, num in counts.items()
    ]


def _seconds(run: RunRecords) -> float | None:
    """Time of the training; of one that did not end, up to its last line."""
    seconds = run.state.get("seconds")
    if seconds is not None:
        return seconds
    return max((line["seconds"] for line in run.metrics if "seconds" in line), default=None)


def _median(points: Points) -> float | None:
    return statistics.median(value for _, value in points) if points else None


def _trainable(plan: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if plan is None:
        return None
    totals = plan["totals"]
    num, size = totals["num_trainable"], totals["num_parameters"]
    return {"num_trainable": num, "num_parameters": size, "share": num / size if size else 0.0}


def _without_place(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without where the run lies, which is no difference in what was done."""
    return {key: value for key, value in config.items() if key != "output"}


def _differences(place: str, values: Sequence[Any]) -> list[dict[str, Any]]:
    """Keys whose values differ, such as ``data.train[0].path``; None where one is not there.

    What one run has and another has not, a source of data for one, is one difference.
    """
    if all(isinstance(value, Mapping) for value in values):
        keys = dict.fromkeys(key for value in values for key in value)
        inner = [
            (f"{place}.{key}" if place else str(key), [value.get(key) for value in values])
            for key in keys
        ]
    elif all(_is_list_of_sections(value) for value in values):
        inner = [
            (
                f"{place}[{number}]",
                [value[number] if number < len(value) else None for value in values],
            )
            for number in range(max(map(len, values)))
        ]
    else:
        differs = any(_differs(values[0], value) for value in values[1:])
        return [{"key": place, "values": list(values)}] if differs else []
    return [found for key, ones in inner for found in _differences(key, ones)]


def _is_list_of_sections(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def _differs(one: Any, other: Any) -> bool:
    # True is 1 in Python, and not in a configuration.
    return one != other or isinstance(one, bool) != isinstance(other, bool)
