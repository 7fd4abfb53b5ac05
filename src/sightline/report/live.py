"""A run in the terminal while it trains: the figures of its last logged step, and alarms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from sightline.report.quantities import duration_text, number_text, short_count

_BY_TOWER = {"learning_rate": "rates", "grad_norm": "gradients"}


def status_lines(logs: Mapping[str, Any], *, held_out: float | None, num_stages: int) -> Table:
    """What stands below the progress bar: a line of rates, and one of gradients.

    Args:
        logs: What was logged last, flat: ``grad_norm/vision``, ``tokens_per_second``.
        held_out: The last validation loss, or None.
        num_stages: Stages of the run; one is not worth a word.
    """
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column()
    stage = f"{logs['stage']} of {num_stages}" if num_stages > 1 and "stage" in logs else ""
    figures = [
        *([f"stage {stage}"] if stage else []),
        *([f"held out {number_text(held_out)}"] if held_out is not None else []),
    ]
    for name, word in _BY_TOWER.items():
        cells = _towers(logs, name)
        own = figures if name == "learning_rate" else _speed(logs)
        if cells or own:
            parts = [", ".join(cells), *own] if cells else own
            grid.add_row(Text(word, style="dim"), Text("   ".join(parts)))
    return grid


def _towers(logs: Mapping[str, Any], name: str) -> list[str]:
    prefix = f"{name}/"
    return [
        f"{key.removeprefix(prefix)} {number_text(float(value))}"
        for key, value in logs.items()
        if key.startswith(prefix)
    ]


def _speed(logs: Mapping[str, Any]) -> list[str]:
    words = {"tokens_per_second": "tokens/s", "images_per_second": "images/s"}
    parts = [
        f"{short_count(round(logs[key]))} {word}" for key, word in words.items() if key in logs
    ]
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
    return "  ".join([*parts, *_speed(logs), f"{duration_text(seconds)} left"])


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
