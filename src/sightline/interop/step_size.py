"""The size of a step: samples of a batch, or tokens where another tool's batch counts rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sightline.interop.given_values import as_count, as_int
from sightline.interop.imported import THEIR_DEFAULT, Verdict
from sightline.interop.ledger import Ledger, Rule
from sightline.interop.packed_rows import NO_LENGTH, PackedRows

_BATCH, _PASSES = "per_device_train_batch_size", "gradient_accumulation_steps"
_TOKENS = "training.tokens_per_step"


def carry_step(
    ledger: Ledger,
    defaults: Mapping[str, Any],
    accumulation: str,
    rows: PackedRows | None,
    processes: int | None,
) -> None:
    """Carry over how large a step is.

    Args:
        ledger: What is filled.
        defaults: The tool's defaults of batch size and accumulation; ours where it has none.
        accumulation: How its loss is averaged over the passes of a step; empty for our way.
        rows: What a batch counts; None for samples.
        processes: Processes over all machines; None where the file does not tell.

    Raises:
        ConfigError: A number is none, or below 1.
    """
    if rows is not None and rows.length is not None:
        _carry_rows(ledger, defaults, accumulation, rows, rows.length, processes)
        return
    how: Verdict = "differs" if accumulation else "carried"
    batch = Rule("training.batch_size", as_int, default=defaults.get(_BATCH))
    passes = Rule("training.gradient_accumulation", as_int, accumulation, how)
    if rows is not None:
        batch = batch._replace(note=NO_LENGTH, verdict="differs")
    ledger.carry_all({_BATCH: batch, _PASSES: passes._replace(default=defaults.get(_PASSES))})


def _carry_rows(
    ledger: Ledger,
    defaults: Mapping[str, Any],
    accumulation: str,
    rows: PackedRows,
    length: int,
    processes: int | None,
) -> None:
    given = {key: ledger.take(key, as_count) for key in (_BATCH, _PASSES)}
    batch, passes = (value or defaults.get(key) or 1 for key, value in given.items())
    total = length * batch * passes * (processes or 1)
    factors = f"{batch} x {passes} rows of {length} tokens"
    if processes is None:
        said = f"{factors} for one process. Multiply it by the number of processes."
    elif processes > 1:
        said = f"{factors} for each of {processes} processes."
    else:
        said = f"{factors}."
    note = f"A step is counted in tokens, over all devices: {said}"
    named = [key for key, value in given.items() if value is not None]
    for key in named:
        ledger.write(key, given[key], _TOKENS, total, "differs", note)
        note = f"A factor of that number. {accumulation}".rstrip()
    if not named:
        ledger.write(_BATCH, batch, _TOKENS, total, "differs", f"{THEIR_DEFAULT}. {note}")
    ledger.write(rows.key, length, "training.tokens_per_row", length, rows.verdict, rows.note)
