"""The ledger: what became of every input sample, and the samples that cannot be used."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sightline.data.index import Entry, IndexedFile, entries_of
from sightline.data.plan import FitPlan, SampleFate, fates_of
from sightline.errors import DataError
from sightline.records import atomic_file

_MAX_SHOWN_CHARS = 64 * 1024
# One for all lines: `json.dumps` would make one a line.
_as_json = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerCounts:
    """How many samples met which fate; they add up to the input.

    Attributes:
        input: Samples in the sources.
        fates: Samples by fate: kept, fitted, dropped, quarantined.
        policies: Samples by policy; one may have met several.
        codes: Dropped and quarantined samples by the kind of their fault.
        conversations: Conversations to train on, before weights.
        answers_lost: Trained answers that no conversation has.
        unused: Conversations that the weights leave out of an epoch.
        epoch: Conversations that an epoch sees, repeats counted.
        held_out: Conversations that do not train, and are evaluated on.
    """

    input: int
    fates: dict[str, int]
    policies: dict[str, int]
    codes: dict[str, int]
    conversations: int
    answers_lost: int
    unused: int
    epoch: int
    held_out: int = 0


def write_ledger(
    files: Sequence[IndexedFile],
    plan: FitPlan,
    chosen: np.ndarray | None,
    *,
    ledger: Path,
    quarantine: Path,
    held_out: np.ndarray | None = None,
) -> LedgerCounts:
    """Write ``ledger.jsonl`` and ``quarantine.jsonl``, each whole or not at all.

    Args:
        files: The index, file by file.
        plan: The plan of all samples.
        chosen: Which conversations an epoch sees; None for each once.
        ledger: Where the ledger goes.
        quarantine: Where the samples go that cannot be used, with their rows.
        held_out: (num_items,) bool. Which conversations do not train; None for none.

    Raises:
        RunError: A file cannot be written.
    """
    uses = None if chosen is None else np.bincount(chosen, minlength=plan.num_items)
    tokens = plan.item_table().column("num_tokens").to_numpy()
    num_held_out = 0 if held_out is None else int(held_out.sum())
    fates: Counter[str] = Counter()
    policies: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    lost = first_item = 0
    # Closed in reverse: the files before they get their names.
    with (
        atomic_file(ledger) as ledger_beside,
        atomic_file(quarantine) as quarantine_beside,
        ledger_beside.open("w", encoding="utf-8") as ledger_file,
        quarantine_beside.open("w", encoding="utf-8") as quarantine_file,
    ):
        for file, entry, fate in joined(files, plan):
            items = slice(first_item, first_item + fate.num_pieces)
            first_item = items.stop
            row = ledger_row(file, entry, fate)
            row["tokens"] = tokens[items].tolist()
            if uses is not None:
                row["uses_per_epoch"] = uses[items].tolist()
            if held_out is not None:
                row["held_out"] = bool(held_out[items].any())
            ledger_file.write(_as_json(row) + "\n")
            if fate.fate == "quarantined":
                quarantine_file.write(_as_json(_quarantine_row(file, entry, row)) + "\n")
            fates[fate.fate] += 1
            policies.update(fate.policies)
            if fate.code is not None:
                codes[fate.code] += 1
            lost += fate.num_answers_lost
    return LedgerCounts(
        input=plan.num_samples,
        fates=dict(fates),
        policies=dict(policies),
        codes=dict(codes.most_common()),
        conversations=plan.num_items,
        answers_lost=lost,
        unused=0 if uses is None else int((uses == 0).sum()) - num_held_out,
        epoch=plan.num_items if chosen is None else len(chosen),
        held_out=num_held_out,
    )


def joined(
    files: Sequence[IndexedFile], plan: FitPlan, *, only_changed: bool = False
) -> Iterator[tuple[IndexedFile, Entry, SampleFate]]:
    """Samples with their rows of the index and their fates, in order.

    Args:
        files: The index, file by file.
        plan: The plan of all samples.
        only_changed: Leave out the samples that train as they are.
    """
    batches = plan.fate_batches()
    for file in files:
        for table in file.tables():
            fates = next(batches)
            if only_changed:
                changed = pc.call_function("not_equal", [fates.column("fate"), pa.scalar("kept")])
                fates, table = fates.filter(changed), table.filter(changed)
            entries = (entry for batch in table.to_batches() for entry in entries_of(batch))
            for entry, fate in zip(entries, fates_of(fates), strict=True):
                yield file, entry, fate


def first_fault(files: Sequence[IndexedFile], plan: FitPlan) -> DataError | None:
    """The first sample that cannot be used, as an error; None where all can."""
    for file, entry, fate in joined(files, plan, only_changed=True):
        if fate.fate == "quarantined":
            if entry.what is not None:
                return entry.fault(file.reader.rows.file)
            origin = entry.origin(file.reader.rows.file)
            return origin.error(fate.reason or "", code=fate.code or "fit.too_long")
    return None


def ledger_row(file: IndexedFile, entry: Entry, fate: SampleFate) -> dict[str, Any]:
    """A sample's line of the ledger, without the lengths of its conversations."""
    origin = entry.origin(file.reader.rows.file)
    row: dict[str, Any] = {
        "sample": fate.sample,
        "file": str(origin.file).encode("utf-8", "replace").decode(),
        "line": entry.line,
        "row": entry.row,
        "fate": fate.fate,
        "policies": fate.policies,
        "reason": fate.reason,
        "code": fate.code,
        "field": entry.field,
        "num_images": sum(not medium["is_video"] for medium in entry.media),
        "num_videos": sum(medium["is_video"] for medium in entry.media),
        "num_tokens": entry.num_tokens,
        "num_image_tokens": entry.num_image_tokens,
        "num_video_tokens": entry.num_video_tokens,
        "num_supervised_tokens": entry.num_supervised_tokens,
    }
    if entry.part is not None:
        row["part"] = entry.part
    if entry.place is not None:
        row["place"] = entry.place
    if fate.num_answers_lost:
        row["answers_lost"] = fate.num_answers_lost
    if fate.shrunk_to is not None:
        row["shrunk_to"] = round(fate.shrunk_to, 4)
    return row


def _quarantine_row(file: IndexedFile, entry: Entry, row: dict[str, Any]) -> dict[str, Any]:
    """Why and where, with the row itself as far as it can be shown, so that it can be mended."""
    kept = ("file", "line", "row", "part", "place", "field", "code", "reason")
    shown: dict[str, Any] = {key: row[key] for key in kept if key in row}
    shown["fix"] = entry.fix
    origin = entry.origin(file.reader.rows.file)
    if entry.num_bytes > _MAX_SHOWN_CHARS:
        shown["content"] = None
        return shown
    raw = file.reader.rows.row(origin, entry.offset, entry.num_bytes)
    text = json.dumps(raw.value, ensure_ascii=True, default=str) if raw.fault is None else None
    if text is not None and len(text) <= _MAX_SHOWN_CHARS:
        shown["content"] = json.loads(text, parse_constant=str)
        # Half characters cannot be written as UTF-8; escaped they can.
        shown["content"] = _encodable(shown["content"])
    return shown


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_encodable(item) for item in value]
    return value
