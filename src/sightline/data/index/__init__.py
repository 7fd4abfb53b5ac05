"""The index of a source: what every sample costs, or what is wrong with it."""

from sightline.data.index.build import IndexedFile, build_index, mapped
from sightline.data.index.pool import num_cores, run_all
from sightline.data.index.schema import SCHEMA_VERSION, Entry, entries_of, name_of_medium

__all__ = [
    "SCHEMA_VERSION",
    "Entry",
    "IndexedFile",
    "build_index",
    "entries_of",
    "mapped",
    "name_of_medium",
    "num_cores",
    "run_all",
]
