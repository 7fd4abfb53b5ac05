"""What becomes of every sample: one row a conversation to train on, and one fate a sample.

The plan of a run follows from the index, the rules and the seed alone, so that every process of a
run, and ``sightline check`` before it, see the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sightline.config import Policy
from sightline.data.encode import Encoder
from sightline.data.fit import FitRules, Fitted, fit
from sightline.data.index import Entry, IndexedFile, entries_of, mapped, name_of_medium, run_all
from sightline.data.items import ITEMS, Item, Patches, patches_of
from sightline.data.sources import SourceReader
from sightline.errors import DataError
from sightline.records import atomic_file

Fate = Literal["kept", "fitted", "dropped", "quarantined"]

_POLICIES: tuple[Policy, ...] = ("shrink", "split", "trim", "drop")
FATES = pa.schema(
    [
        ("sample", pa.int64()),
        ("fate", pa.string()),
        ("policies", pa.list_(pa.string())),
        ("num_pieces", pa.int32()),
        ("num_answers_lost", pa.int32()),
        ("reason", pa.string()),
        ("code", pa.string()),
        # Of the strongest shrink among its pieces: pixels of the media, as a share of their full.
        ("shrunk_to", pa.float32()),
    ]
)


class SampleFate(NamedTuple):
    """What became of one sample; the fields are the columns of `FATES`."""

    sample: int
    fate: Fate
    policies: list[Policy]
    num_pieces: int
    num_answers_lost: int
    reason: str | None
    code: str | None
    shrunk_to: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class FitPlan:
    """The plan of all samples, on disk.

    Attributes:
        items: File of the conversations to train on.
        fates: File of the fates.
        num_items: Conversations to train on.
        num_samples: Input samples.
    """

    items: Path
    fates: Path
    num_items: int
    num_samples: int

    def item_table(self) -> pa.Table:
        """The conversations to train on, mapped."""
        return mapped(self.items)

    def fate_batches(self) -> Iterator[pa.RecordBatch]:
        """The fates, one batch for each file of the index."""
        with pa.memory_map(str(self.fates)) as source:
            reader = pa.ipc.open_file(source)
            for number in range(reader.num_record_batches):
                yield reader.get_batch(number)

    def fate_counts(self) -> dict[str, int]:
        """Samples by fate, every fate there is."""
        counts = dict.fromkeys(get_args(Fate), 0)
        for batch in self.fate_batches():
            for found in pc.call_function("value_counts", [batch.column("fate")]).to_pylist():
                counts[found["values"]] += found["counts"]
        return counts

    def changed_fates(self) -> Iterator[SampleFate]:
        """The fates of samples that do not train as they are."""
        for batch in self.fate_batches():
            changed = pc.call_function("not_equal", [batch.column("fate"), pa.scalar("kept")])
            yield from fates_of(batch.filter(changed))


def fates_of(batch: pa.RecordBatch) -> Iterator[SampleFate]:
    """The rows of a batch of fates."""
    columns = [column.to_pylist() for column in batch.columns]
    return (SampleFate(*row) for row in zip(*columns, strict=True))


def make_plan(
    files: Sequence[IndexedFile],
    encoder: Encoder,
    rules: FitRules,
    folder: Path,
    *,
    num_processes: int,
) -> FitPlan:
    """Decide what becomes of every sample.

    Args:
        files: The index, file by file.
        encoder: The run's encoder.
        rules: Limit and policies.
        folder: Where the plan is written.
        num_processes: Processes that fit the samples that are too long.

    Raises:
        RunError: The folder cannot be written.
    """
    items_path, fates_path = folder / "items.arrow", folder / "fates.arrow"
    state = _State(files=tuple(files), encoder=encoder, rules=rules)
    tasks = (
        _Task(file=number, name=name) for number, file in enumerate(files) for name in file.names
    )
    num_samples = num_items = 0
    # Closed in reverse: the files before they get their names.
    with (
        atomic_file(items_path) as items_beside,
        atomic_file(fates_path) as fates_beside,
        pa.ipc.new_file(str(items_beside), ITEMS) as items_writer,
        pa.ipc.new_file(str(fates_beside), FATES) as fates_writer,
    ):
        for task, made in run_all(_plan_chunk, state, tasks, num_processes=num_processes):
            items = made.item_batch(task.file, num_samples)
            items_writer.write_batch(items)
            fates_writer.write_batch(made.fate_batch(num_samples))
            num_samples += made.num_samples
            num_items += items.num_rows
    return FitPlan(items=items_path, fates=fates_path, num_items=num_items, num_samples=num_samples)


@dataclass(frozen=True, kw_only=True, slots=True)
class _State:
    files: tuple[IndexedFile, ...]
    encoder: Encoder
    rules: FitRules


@dataclass(frozen=True, kw_only=True, slots=True)
class _Task:
    file: int
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kept:
    """Samples of a chunk that are kept as they are.

    Attributes:
        samples: (num_kept,) Their numbers in the chunk.
        numbers: The columns of `ITEMS` that hold a number of each.
    """

    samples: np.ndarray
    numbers: dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Made:
    """What a chunk gives.

    Attributes:
        num_samples: Its samples.
        kept: Those that are kept as they are.
        items: Conversations of the others.
        fates: Fates of the others.
    """

    num_samples: int
    kept: _Kept
    items: list[Item]
    fates: list[SampleFate]

    def item_batch(self, file: int, first_sample: int) -> pa.RecordBatch:
        """All its conversations, in the order of the samples."""
        kept = pa.RecordBatch.from_arrays(
            [
                pa.array(self.kept.numbers[field.name], type=field.type)
                if field.name in self.kept.numbers
                else pa.nulls(len(self.kept.samples), type=field.type)
                for field in ITEMS
            ],
            schema=ITEMS,
        )
        made = _in_order(kept, _batch(self.items, ITEMS), first_sample)
        files = pa.array(np.full(made.num_rows, file), type=pa.int32())
        return made.set_column(ITEMS.get_field_index("file"), ITEMS.field("file"), files)

    def fate_batch(self, first_sample: int) -> pa.RecordBatch:
        """All its fates, in order."""
        num_kept = len(self.kept.samples)
        known: dict[str, Any] = {
            "sample": self.kept.samples,
            "fate": np.full(num_kept, "kept"),
            "policies": [[]] * num_kept,
            "num_pieces": np.ones(num_kept, dtype=np.int32),
            "num_answers_lost": np.zeros(num_kept, dtype=np.int32),
        }
        kept = pa.RecordBatch.from_arrays(
            [
                pa.array(known[field.name], type=field.type)
                if field.name in known
                else pa.nulls(num_kept, type=field.type)
                for field in FATES
            ],
            schema=FATES,
        )
        return _in_order(kept, _batch(self.fates, FATES), first_sample)


def _plan_chunk(state: _State, task: _Task) -> _Made:
    """Items and fates of a chunk, samples counted from its first.

    Most samples are kept as they are, and are never looked at one by one.
    """
    table = mapped(state.files[task.file].folder / task.name)
    counts = {
        name: table.column(f"num_{name}_tokens").to_numpy()
        for name in ("text", "image", "video", "supervised")
    }
    vision = counts["image"] + counts["video"]
    tokens = counts["text"] + vision
    is_bad = table.column("what").is_valid().to_numpy()
    is_looked_at = is_bad | (tokens > state.rules.max_length)
    looked_at, kept = np.flatnonzero(is_looked_at), np.flatnonzero(~is_looked_at)
    items: list[Item] = []
    fates: list[SampleFate] = []
    entries = (entry for batch in table.take(looked_at).to_batches() for entry in entries_of(batch))
    for sample, entry in zip(looked_at.tolist(), entries, strict=True):
        _plan_sample(entry, sample, task.file, state, items, fates)
    num_patches, num_patch_pairs = patches_of(table.column("media"))
    numbers = {
        "sample": kept,
        "num_tokens": tokens[kept],
        "num_vision_tokens": vision[kept],
        "num_video_tokens": counts["video"][kept],
        "num_supervised_tokens": counts["supervised"][kept],
        "num_patches": num_patches[kept],
        "num_patch_pairs": num_patch_pairs[kept],
    }
    return _Made(
        num_samples=table.num_rows,
        kept=_Kept(samples=kept, numbers=numbers),
        items=items,
        fates=fates,
    )


def _plan_sample(
    entry: Entry,
    sample: int,
    file: int,
    state: _State,
    items: list[Item],
    fates: list[SampleFate],
) -> None:
    """What becomes of a sample that cannot stay as it is."""
    if entry.what is not None:
        fates.append(SampleFate(sample, "quarantined", [], 0, 0, entry.what, entry.code, None))
        return
    reader = state.files[file].reader
    try:
        fitted = _fitted(entry, reader, state)
    except DataError as fault:
        fates.append(SampleFate(sample, "quarantined", [], 0, 0, fault.what, fault.code, None))
        return
    if fitted.fault is not None:
        what, code = fitted.fault.what, fitted.fault.code
        fates.append(SampleFate(sample, "quarantined", [], 0, 0, what, code, None))
        return
    for number, piece in enumerate(fitted.pieces):
        measure, is_split = piece.measure, len(fitted.pieces) > 1
        patches = Patches.of(one.grid_thw for one in (*measure.images, *measure.videos))
        items.append(
            Item(
                sample,
                file,
                number if is_split else None,
                piece.turns.start,
                piece.turns.stop,
                piece.limits.image_max_pixels,
                piece.limits.video_max_pixels,
                measure.num_tokens,
                measure.num_vision_tokens,
                measure.num_video_tokens,
                measure.num_supervised_tokens,
                *patches,
            )
        )
    fate: Fate = "fitted" if fitted.pieces else "dropped"
    fates.append(
        SampleFate(
            sample,
            fate,
            list(fitted.policies),
            len(fitted.pieces),
            fitted.num_answers_lost,
            fitted.reason,
            None if fitted.pieces else "fit.dropped",
            _shrunk_to(entry, fitted),
        )
    )


def _fitted(entry: Entry, reader: SourceReader, state: _State) -> Fitted:
    origin = entry.origin(reader.rows.file)
    conversation = reader.conversation(origin, entry.offset, entry.num_bytes)
    return fit(conversation, state.encoder.measure(conversation), state.encoder, state.rules)


def _shrunk_to(entry: Entry, fitted: Fitted) -> float | None:
    """Pixels left of the medium that lost most, as a share."""
    full = {medium["path"]: medium["t"] * medium["h"] * medium["w"] for medium in entry.media}
    shares = [
        media.grid_thw[0] * media.grid_thw[1] * media.grid_thw[2] / full[name_of_medium(media.part)]
        for piece in fitted.pieces
        if "shrink" in piece.policies
        for media in (*piece.measure.images, *piece.measure.videos)
        if full.get(name_of_medium(media.part))
    ]
    return min(shares, default=None)


def _in_order(kept: pa.RecordBatch, others: pa.RecordBatch, first_sample: int) -> pa.RecordBatch:
    """Both in the order of the samples, counted from the first of the run; pieces stay in order."""
    table = pa.Table.from_batches([kept, others])
    samples = table.column("sample").to_numpy()
    order = np.argsort(samples, kind="stable")
    numbers = pa.array(samples + first_sample, type=pa.int64())
    ordered = table.set_column(0, kept.schema.field("sample"), numbers).take(order)
    [batch] = ordered.combine_chunks().to_batches() or [kept]
    return batch


def _batch(rows: Sequence[tuple], schema: pa.Schema) -> pa.RecordBatch:
    columns = zip(*rows, strict=True) if rows else [[] for _ in schema]
    arrays = [
        pa.array(column, type=field.type) for column, field in zip(columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
