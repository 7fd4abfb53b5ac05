"""A comparison in words: tables of rows with a value for each run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sightline.report.quantities import (
    count_text,
    duration_text,
    number_text,
    share_text,
    short_count,
)

NONE = "–"
# Of a section that only some runs have, values that are shown.
_NUM_TOLD = 3
_VERDICTS = {"holds": "holds", "fails": "FAILS", "open": "not verified"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A row of a table.

    Attributes:
        name: What it says.
        values: Of each run, in their order.
    """

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedTable:
    """A table of the comparison.

    Attributes:
        title: What it is about.
        rows: Its rows; none where `note` says all.
        note: What has to be known to read it, or why it has no rows.
    """

    title: str
    rows: tuple[Row, ...]
    note: str = ""


def letters(count: int) -> list[str]:
    """What the runs are called in tables and curves: A, B, ..., Z, A2, B2, ...

    >>> letters(2), letters(28)[-2:]
    (['A', 'B'], ['A2', 'B2'])
    """
    rounds = [divmod(number, 26) for number in range(count)]
    return [chr(65 + place) + (str(turn + 1) if turn else "") for turn, place in rounds]


def compared_tables(record: Mapping[str, Any]) -> list[ComparedTable]:
    """The tables of a comparison, in the order in which they are shown.

    Args:
        record: Of `compare_record`.
    """
    runs = record["runs"]
    return [
        _table("outcome", _outcome_rows(runs)),
        _table("loss", _loss_rows(runs, record["common_step"])),
        _measures_table(runs),
        _table("cost", _cost_rows(runs)),
        _data_table(record),
        _differing(
            "settings that differ",
            record["configuration"],
            "none; every key is the same, but for output.",
        ),
        _differing("versions that differ", record["versions"], "none."),
    ]


def _table(title: str, rows: Iterable[Row], note: str = "") -> ComparedTable:
    """A table without the rows that say nothing of any run."""
    told = tuple(row for row in rows if any(value not in ("", NONE) for value in row.values))
    return ComparedTable(title=title, rows=told, note=note)


def _row(
    name: str, runs: Sequence[Mapping[str, Any]], text: Callable[[Mapping[str, Any]], str]
) -> Row:
    return Row(name=name, values=tuple(text(run) or NONE for run in runs))


def _outcome_rows(runs: Sequence[Mapping[str, Any]]) -> list[Row]:
    return [
        _row("certificate", runs, lambda run: _VERDICTS[run["verdict"]["kind"]]),
        _row("checks that fail", runs, lambda run: "\n".join(run["failing"])),
        _row("alarms", runs, _alarms),
        _row("state", runs, lambda run: run["state"] or ""),
        _row("steps", runs, _steps),
    ]


def _alarms(run: Mapping[str, Any]) -> str:
    return "\n".join(
        f"{alarm['id']}, step {count_text(alarm['first_step'])}"
        + (f", {alarm['num']} times" if alarm["num"] > 1 else "")
        for alarm in run["alarms"]
    )


def _steps(run: Mapping[str, Any]) -> str:
    steps, planned = run["steps"], run["planned_steps"]
    if steps is None:
        return ""
    of_all = "" if planned in (None, steps) else f" of {planned:,}"
    return f"{count_text(steps)}{of_all}"


def _loss_rows(runs: Sequence[Mapping[str, Any]], common: float | None) -> list[Row]:
    rows = [_row("final", runs, lambda run: _point(run["loss"]["final"]))]
    if common is not None:
        rows.append(
            _row(
                f"at step {count_text(int(common))}, the last that all logged",
                runs,
                lambda run: _number(run["loss"]["at_common_step"]),
            )
        )
    return [
        *rows,
        _row("lowest", runs, lambda run: _point(run["loss"]["lowest"])),
        _row("held out, final", runs, lambda run: _point(run["held_out_loss"]["final"])),
        _row("held out, lowest", runs, lambda run: _point(run["held_out_loss"]["lowest"])),
    ]


def _point(point: Mapping[str, Any] | None) -> str:
    if point is None:
        return ""
    return f"{number_text(point['value'])}, step {count_text(point['step'])}"


def _number(value: float | None) -> str:
    return "" if value is None else number_text(value)


def _measures_table(runs: Sequence[Mapping[str, Any]]) -> ComparedTable:
    titles = {one["name"]: one["title"] for run in reversed(runs) for one in run["measures"]}
    by_name = [{one["name"]: one for one in run["measures"]} for run in runs]
    rows = [
        Row(
            name=title,
            values=tuple(_measure(measures.get(name)) or NONE for measures in by_name),
        )
        for name, title in titles.items()
    ]
    note = ""
    if not rows:
        note = "No answers were measured: sightline evaluate RUN --before"
    elif any(one["low"] is not None for run in runs for one in run["measures"]):
        note = "In brackets the interval of 95 %, and how many answers were measured."
    return ComparedTable(title="measures of answers", rows=tuple(rows), note=note)


def _measure(one: Mapping[str, Any] | None) -> str:
    if one is None or one["value"] is None:
        return ""
    lines = [f"{one['value']:.3f}"]
    if one["low"] is not None:
        lines.append(f"({one['low']:.3f} to {one['high']:.3f})")
    if one["num"] is not None:
        lines.append(f"of {count_text(one['num'])}")
    elif one["step"] is not None:
        lines.append(f"at step {count_text(one['step'])}")
    return "\n".join(lines)


def _cost_rows(runs: Sequence[Mapping[str, Any]]) -> list[Row]:
    def memory(run: Mapping[str, Any]) -> str:
        mib = run["peak_memory_mib"]
        return "" if mib is None else f"{mib / 1024:.3g} GiB"

    def time(run: Mapping[str, Any]) -> str:
        return "" if run["seconds"] is None else duration_text(run["seconds"])

    def speed(run: Mapping[str, Any]) -> str:
        speed = run["tokens_per_second"]
        return "" if speed is None else short_count(round(speed))

    def trainable(run: Mapping[str, Any]) -> str:
        found = run["trainable"]
        if found is None:
            return ""
        return f"{share_text(found['share'])}: {short_count(found['num_trainable'])}"

    return [
        _row("time of training", runs, time),
        _row("tokens a second, median", runs, speed),
        _row("most memory", runs, memory),
        _row("device", runs, lambda run: run["device"] or ""),
        _row("trains, of the model's size", runs, trainable),
    ]


def _data_table(record: Mapping[str, Any]) -> ComparedTable:
    runs, data = record["runs"], record["data"]
    note = {
        True: "The same data: their fingerprints are equal.",
        False: "Other data: their fingerprints differ, and losses are not of the same samples.",
        None: "Not known whether the data are the same: a run has no fingerprint of them.",
    }[data["same"]]
    rows = [
        Row(name="samples", values=_counts(run["samples"] for run in runs)),
        Row(name="fingerprint", values=tuple(one or NONE for one in data["fingerprints"])),
    ]
    if len({run["model"] for run in runs}) > 1 or len({run["family"] for run in runs}) > 1:
        rows.append(_row("model", runs, lambda run: run["model"] or ""))
        rows.append(_row("family", runs, lambda run: run["family"]))
    return _table("data and model", rows if not data["same"] else [*rows[:1], *rows[2:]], note)


def _counts(values: Iterable[int | None]) -> tuple[str, ...]:
    return tuple(NONE if value is None else count_text(value) for value in values)


def _differing(title: str, found: Sequence[Mapping[str, Any]], none: str) -> ComparedTable:
    rows = tuple(
        Row(name=one["key"], values=tuple(value_text(value) for value in one["values"]))
        for one in found
    )
    return ComparedTable(title=title, rows=rows, note="" if rows else none)


def value_text(value: Any) -> str:
    """A value of a configuration as its file has it; of a section, what it begins with.

    >>> [value_text(value) for value in (None, True, 1e-5, "bf16", [1, 2])]
    ['–', 'true', '1e-05', 'bf16', '[1, 2]']
    >>> value_text({"path": "a.jsonl", "hub": None, "weight": 1.0, "split": "train", "tags": "x"})
    'path: a.jsonl, weight: 1.0, split: train, ...'
    """
    if value is None:
        return NONE
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        told = [f"{key}: {value_text(one)}" for key, one in value.items() if one is not None]
        return ", ".join(told[:_NUM_TOLD] + ["..."] * (len(told) > _NUM_TOLD))
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return "\n".join(value_text(one) for one in value)
    return json.dumps(value, ensure_ascii=False)
