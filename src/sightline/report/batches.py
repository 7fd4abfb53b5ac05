"""The steps of a run in words."""

from __future__ import annotations

from typing import Any


def batches_text(record: dict[str, Any]) -> str:
    """``batches`` of ``run.json`` as lines of the terminal.

    >>> spread = {"least": 4, "median": 4, "most": 4}
    >>> rows = {"least": 310, "median": 350, "most": 380}
    >>> print(batches_text({"num_steps": 2, "samples": spread, "tokens": rows, "slots": spread,
    ...     "row_tokens": rows, "packed": True, "num_processes": 2, "padding_share": 0.0,
    ...     "idle_share": 0.031}))
    steps   2 an epoch, of 4 samples and about 350 tokens
            4 packed rows in each of 2 processes, 310 to 380 tokens a row
            processes wait for each other 3.1 % of the time, by estimated cost
    """
    rows, slots = record["row_tokens"], record["slots"]
    kind = "packed row" if record["packed"] else "padded batch"
    plural = "s" if kind.endswith("w") else "es"
    several = record["num_processes"] > 1
    where = f" in each of {record['num_processes']} processes" if several else ""
    lines = [
        f"steps   {record['num_steps']:,} an epoch, of {_range(record['samples'])} "
        f"sample{'s' if record['samples']['most'] > 1 else ''} and about "
        f"{record['tokens']['median']:,} tokens",
        f"        {_range(slots)} {kind}{plural if slots['most'] > 1 else ''}{where}, "
        f"{_range(rows)} tokens a {'row' if record['packed'] else 'batch'}",
    ]
    if record["padding_share"] > 0.005:
        lines[-1] += f", {record['padding_share']:.0%} of it padding"
    if several:
        lines.append(
            f"        processes wait for each other {100 * record['idle_share']:.1f} % of the "
            "time, by estimated cost"
        )
    return "\n".join(lines)


def _range(spread: dict[str, int]) -> str:
    low, high = spread["least"], spread["most"]
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
