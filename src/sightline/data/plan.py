"""What becomes of every sample: one row a conversation to train on, and one fate a sample.

The plan of a run follows from the index, the rules and the seed alone, so that every process of a
run, and ``sightline check`` before it, see the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from sightline.config import Policy
from sightline.data.encode import Encoder, MediaLimits
from sightline.data.fit import FitRules, Fitted, Turns, fit
from sightline.data.index import Entry, IndexedFile, entries_of, mapped, run_all
from sightline.data.sources import SourceReader
from sightline.errors import DataError
from sightline.records import atomic_file

Fate = Literal["kept", "fitted", "dropped", "quarantined"]

_POLICIES: tuple[Policy, ...] = ("shrink", "split", "trim", "drop")
ITEMS = pa.schema(
    [
        # Row of the index, over all files of the run in order.
        ("sample", pa.int64()),
        ("file", pa.int32()),
        ("piece", pa.int32()),
        ("start", pa.int32()),
        ("stop", pa.int32()),
        ("image_max_pixels", pa.int64()),
        ("video_max_pixels", pa.int64()),
        ("num_tokens", pa.int32()),
        ("num_vision_tokens", pa.int32()),
        ("num_supervised_tokens", pa.int32()),
    ]
)
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


class Item(NamedTuple):
    """One conversation to train on; the fields are the columns of `ITEMS`.

    ``start`` and ``stop`` are None for a whole sample.
    """

    sample: int
    file: int
    piece: int | None
    start: int | None
    stop: int | None
    image_max_pixels: int | None
    video_max_pixels: int | None
    num_tokens: int
    num_vision_tokens: int
    num_supervised_tokens: int

    @property
    def limits(self) -> MediaLimits:
        """Pixel limits of its media."""
        return MediaLimits(
            image_max_pixels=self.image_max_pixels, video_max_pixels=self.video_max_pixels
        )

    @property
    def turns(self) -> Turns | None:
        """Its turns; None for all of them."""
        if self.start is None or self.stop is None:
            return None
        return Turns(start=self.start, stop=self.stop)


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
        for _, made in run_all(_plan_chunk, state, tasks, num_processes=num_processes):
            items = [item._replace(sample=item.sample + num_samples) for item in made.items]
            fates = [fate._replace(sample=fate.sample + num_samples) for fate in made.fates]
            items_writer.write_batch(_batch(items, ITEMS))
            fates_writer.write_batch(_batch(fates, FATES))
            num_samples += len(fates)
            num_items += len(items)
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
class _Made:
    items: list[Item]
    fates: list[SampleFate]


def _plan_chunk(state: _State, task: _Task) -> _Made:
    """Items and fates of a chunk, samples counted from its first."""
    file = state.files[task.file]
    made = _Made(items=[], fates=[])
    number = 0
    for batch in mapped(file.folder / task.name).to_batches():
        for entry in entries_of(batch):
            _plan_sample(entry, number, task.file, state, made)
            number += 1
    return made


def _plan_sample(entry: Entry, sample: int, file: int, state: _State, made: _Made) -> None:
    if entry.what is not None:
        made.fates.append(SampleFate(sample, "quarantined", [], 0, 0, entry.what, entry.code, None))
        return
    if entry.num_tokens <= state.rules.max_length:
        vision = entry.num_image_tokens + entry.num_video_tokens
        made.items.append(
            Item(
                sample, file, None, None, None, None, None,
                entry.num_tokens, vision, entry.num_supervised_tokens,
            )
        )  # fmt: skip
        made.fates.append(SampleFate(sample, "kept", [], 1, 0, None, None, None))
        return
    reader = state.files[file].reader
    try:
        fitted = _fitted(entry, reader, state)
    except DataError as fault:
        made.fates.append(SampleFate(sample, "quarantined", [], 0, 0, fault.what, fault.code, None))
        return
    if fitted.fault is not None:
        what, code = fitted.fault.what, fitted.fault.code
        made.fates.append(SampleFate(sample, "quarantined", [], 0, 0, what, code, None))
        return
    for number, piece in enumerate(fitted.pieces):
        measure, is_split = piece.measure, len(fitted.pieces) > 1
        made.items.append(
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
                measure.num_supervised_tokens,
            )
        )
    fate: Fate = "fitted" if fitted.pieces else "dropped"
    made.fates.append(
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
        media.grid_thw[0] * media.grid_thw[1] * media.grid_thw[2] / full[str(media.part.path)]
        for piece in fitted.pieces
        if "shrink" in piece.policies
        for media in (*piece.measure.images, *piece.measure.videos)
        if full.get(str(media.part.path))
    ]
    return min(shares, default=None)


def _batch(rows: Sequence[tuple], schema: pa.Schema) -> pa.RecordBatch:
    columns = zip(*rows, strict=True) if rows else [[] for _ in schema]
    arrays = [
        pa.array(column, type=field.type) for column, field in zip(columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
