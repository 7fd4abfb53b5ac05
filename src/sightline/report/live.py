"""A run in the terminal while it trains: the figures of its last logged step, and alarms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from sightline.report.quantities import duration_text, number_text, short_count

_ROWS = {"learning_rate": "rate", "grad_norm": "gradient"}
_COLUMN = 10


def status_lines(logs: Mapping[str, Any], *, held_out: float | None, num_stages: int) -> Text:
    """What stands below the progress bar: a line for the run, and a small table by tower.

    At most 68 columns wide, and always of the same shape in a stage, so that nothing jumps.

    Args:
        logs: What was logged last, flat: ``grad_norm/vision``, ``tokens_per_second``.
        held_out: The last validation loss, or None.
        num_stages: Stages of the run; one is not worth a word.
    """
    parts = [f"stage {logs['stage']} of {num_stages}"] if num_stages > 1 and "stage" in logs else []
    if held_out is not None:
        parts.append(f"held out {number_text(held_out)}")
    lines = [Text("   ".join([*parts, *_speed(logs)]))]
    towers = _towers(logs)
    if towers:
        lines.append(Text(" " * _COLUMN + _cells(towers), "dim"))
    for name, word in _ROWS.items():
        values = [logs.get(f"{name}/{tower}") for tower in towers]
        if any(value is not None for value in values):
            cells = _cells("-" if value is None else number_text(float(value)) for value in values)
            lines.append(Text.assemble((f"{word:{_COLUMN}}", "dim"), cells))
    return Text("\n").join(line for line in lines if line.plain)


def _towers(logs: Mapping[str, Any]) -> list[str]:
    """Towers that train now, in the order in which they were logged."""
    names = (key.partition("/") for key in logs)
    return list(dict.fromkeys(tower for name, _, tower in names if name in _ROWS and tower))


def _cells(texts: Iterable[str]) -> str:
    return "  ".join(f"{text:{_COLUMN}}" for text in texts).rstrip()


def _speed(logs: Mapping[str, Any]) -> list[str]:
    words = {"tokens_per_second": "tokens/s", "images_per_second": "images/s"}
    found = {word: logs[key] for key, word in words.items() if key in logs}
    parts = [f"{short_count(round(value))} {word}" for word, value in found.items()]
    if "memory_mib" in logs:
        parts.append(f"{logs['memory_mib'] / 1024:.1f} GiB")
    return parts


def step_line(
    logs: Mapping[str, Any], *, step: int, num_steps: int, held_out: float | None, seconds: float
) -> str:
    """A run in one line, for an output that is no terminal.

    Args:
        logs: What was logged last, flat.
        step: Steps done.
        num_steps: Steps of the whole run.
        held_out: The last validation loss, or None.
        seconds: Time that the rest will take at the present pace.
    """
    parts = [f"step {step:,} of {num_steps:,}", f"loss {number_text(float(logs['loss']))}"]
    if held_out is not None:
        parts.append(f"held out {number_text(held_out)}")
    return "  ".join([*parts, *_speed(logs)[:1], f"{duration_text(seconds)} left"])


def alarm_text(alarm: Mapping[str, Any]) -> Table:
    """An alarm with its cause and its remedy.

    Args:
        alarm: A line of ``alarms.jsonl``.
    """
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, min_width=6)
    grid.add_column(overflow="fold")
    grid.add_row(
        Text("alarm", style="bold red"), Text(f"step {alarm['step']:,}: {alarm['seen']}", "bold")
    )
    grid.add_row("cause", Text(alarm["cause"]))
    grid.add_row("remedy", Text(alarm["remedy"]))
    return grid
