"""Lines of ``metrics.jsonl``, made of what the Trainer logs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BY_TOWER = ("grad_norm", "weight_change", "learning_rate")
"""What is logged for each tower: ``grad_norm/vision`` for a tracker, a mapping in the file."""

_NUMBERS = (
    "loss",
    "eval_loss",
    "grad_norm",
    "learning_rate",
    "tokens_per_second",
    "images_per_second",
    "videos_per_second",
    "memory_mib",
)
_COUNTS = ("stage", "supervised_tokens", "media")


def metrics_line(
    logs: Mapping[str, Any], *, step: int, epoch: float, seconds: float
) -> dict[str, Any] | None:
    """A line of metrics, or None where neither a training nor a validation loss was logged.

    Args:
        logs: What the Trainer logged, flat.
        step: Optimizer steps done.
        epoch: Passes over the data done.
        seconds: Since the run began.

    >>> metrics_line({"loss": 2.0, "grad_norm/vision": 0.5}, step=3, epoch=0.5, seconds=1.0)
    {'step': 3, 'epoch': 0.5, 'loss': 2.0, 'grad_norm_by_tower': {'vision': 0.5}, 'seconds': 1.0}
    """
    if "loss" not in logs and "eval_loss" not in logs:
        return None
    line: dict[str, Any] = {"step": step, "epoch": round(epoch, 4)}
    line |= {key: float(logs[key]) for key in _NUMBERS if key in logs}
    # Measures of answers to held-out data, by the names of the configuration.
    line |= {
        key: float(value)
        for key, value in logs.items()
        if key.startswith("eval_") and key not in _NUMBERS
    }
    line |= {key: int(logs[key]) for key in _COUNTS if key in logs}
    for name in BY_TOWER:
        values = {
            key.removeprefix(f"{name}/"): float(value)
            for key, value in logs.items()
            if key.startswith(f"{name}/")
        }
        if values:
            line[f"{name}_by_tower"] = values
    return line | {"seconds": round(seconds, 3)}
