"""Rows of every kind of source, in chunks and again by their place."""

from sightline.data.rows.base import Chunk, RawRow, RowSource, digest_of
from sightline.data.rows.open import open_rows

__all__ = ["Chunk", "RawRow", "RowSource", "digest_of", "open_rows"]
