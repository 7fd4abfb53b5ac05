"""The conversations of a run, encoded when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, overload

import numpy as np
import pyarrow as pa

from sightline.data.conversation import Conversation, Origin
from sightline.data.encode import EncodedSample, Encoder
from sightline.data.fit import cut
from sightline.data.index import Entry, IndexedFile, entries_of
from sightline.data.items import Item
from sightline.data.plan import FitPlan
from sightline.errors import DataError


class PlannedSamples(Sequence[EncodedSample]):
    """A sequence of encoded samples that holds none of them.

    Each is read from its place in the data, fitted as the plan says, and compared with what the
    plan promised.

    Args:
        files: The index, file by file.
        plan: The plan of all samples.
        encoder: The run's encoder.
        chosen: (num_chosen,) Which conversations of the plan, in order; None for all.
    """

    def __init__(
        self,
        files: Sequence[IndexedFile],
        plan: FitPlan,
        encoder: Encoder,
        chosen: np.ndarray | None = None,
    ) -> None:
        self._files = tuple(files)
        self._plan = plan
        self._encoder = encoder
        self._chosen = chosen
        # The first sample of every file, and one behind the last.
        self._firsts = np.concatenate([[0], np.cumsum([file.num_rows for file in files])])
        self._items: pa.Table | None = None
        self._entries: dict[int, pa.Table] = {}

    def __len__(self) -> int:
        return self._plan.num_items if self._chosen is None else len(self._chosen)

    @overload
    def __getitem__(self, index: int) -> EncodedSample: ...
    @overload
    def __getitem__(self, index: slice) -> list[EncodedSample]: ...
    def __getitem__(self, index: int | slice) -> EncodedSample | list[EncodedSample]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        item = self.item(index)
        sample = self.encode(item)
        if sample.num_tokens != item.num_tokens:
            raise sample.conversation.origin.error(
                f"the sample takes {sample.num_tokens} tokens now, and took {item.num_tokens} when "
                "the data were read.",
                fix="The data or a picture changed since: start again, and it is read anew.",
                code="source.changed",
            )
        return sample

    def encode(self, item: Item) -> EncodedSample:
        """A conversation of the plan.

        Args:
            item: Which.

        Raises:
            DataError: It cannot be used any more.
        """
        return self._encoder.encode(self.conversation(item), item.limits)

    def conversation(self, item: Item) -> Conversation:
        """The turns of a conversation of the plan, its boxes still as boxes.

        Args:
            item: Which.

        Raises:
            DataError: It cannot be used any more.
        """
        entry = self._entry(item)
        reader = self._files[item.file].reader
        origin = entry.origin(reader.rows.file)
        conversation = reader.conversation(origin, entry.offset, entry.num_bytes)
        return conversation if item.turns is None else cut(conversation, item.turns, item.piece)

    def item(self, index: int) -> Item:
        """What the plan says of a conversation."""
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        where = index if self._chosen is None else int(self._chosen[index])
        [row] = self._item_table().slice(where, 1).to_pylist()
        return Item(**row)

    def origin(self, index: int) -> Origin:
        """Where a conversation stands in the user's data; nothing of it is read."""
        item = self.item(index)
        origin = self._entry(item).origin(self._files[item.file].reader.rows.file)
        return replace(origin, piece=item.piece)

    def positions(self) -> np.ndarray:
        """(len,) Number in the plan of every conversation; one that is seen twice has it twice."""
        return np.arange(self._plan.num_items) if self._chosen is None else self._chosen

    def only(self, numbers: Sequence[int]) -> PlannedSamples:
        """Some of the conversations, in the order in which they are named.

        Args:
            numbers: Which, 0-based.
        """
        chosen = self.positions()[np.asarray(numbers, dtype=np.int64)]
        return PlannedSamples(self._files, self._plan, self._encoder, chosen)

    def column(self, name: str) -> np.ndarray:
        """A number of every conversation, in order: ``num_tokens``, ``num_vision_tokens``, ..."""
        values = self._item_table().column(name).to_numpy()
        return values if self._chosen is None else values[self._chosen]

    def _item_table(self) -> pa.Table:
        if self._items is None:
            self._items = self._plan.item_table()
        return self._items

    def _entry(self, item: Item) -> Entry:
        if item.file not in self._entries:
            self._entries[item.file] = pa.concat_tables(self._files[item.file].tables())
        row = item.sample - int(self._firsts[item.file])
        batches = self._entries[item.file].slice(row, 1).to_batches()
        for batch in batches:
            for entry in entries_of(batch):
                return entry
        raise DataError(
            "the index is shorter than its plan: it was cut while it was in use.",
            file=self._files[item.file].folder,
            fix="Remove this folder and start again: it is made anew.",
        )

    def __getstate__(self) -> dict[str, Any]:
        # What is mapped does not travel to another process; it is mapped there again.
        return {**self.__dict__, "_items": None, "_entries": {}}
