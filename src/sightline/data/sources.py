"""Sources of a run, row by row, as conversations that know their file and line."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sightline.config import Source, SourceFormat
from sightline.data.conversation import Conversation, Origin
from sightline.data.downloads import Downloads
from sightline.data.formats import (
    STRUCTURAL_TOKENS,
    DeclaredShape,
    MediaFolder,
    RowContext,
    declared_shape,
    detect_format,
    parse_row,
)
from sightline.data.rows import RawRow, RowSource, open_rows
from sightline.errors import DataError


@dataclass(kw_only=True, slots=True)
class Parsed:
    """A sample of a row, or why there is none.

    Attributes:
        origin: Where it stands.
        conversation: The sample; None where ``fault`` is set.
        fault: Why it cannot be used.
    """

    origin: Origin
    conversation: Conversation | None = None
    fault: DataError | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceReader:
    """Reads the samples of one file of a source.

    Attributes:
        rows: The rows of the file.
        shape: What is declared about them.
        media: The folder of the media files.
        structural_tokens: Tokens that text must not contain, because the tokenizer would read
            them as control tokens.
    """

    rows: RowSource
    shape: DeclaredShape
    media: MediaFolder
    structural_tokens: tuple[str, ...]

    def parse(self, raw: RawRow, found: SourceFormat | None = None) -> Iterator[Parsed]:
        """The samples of a row: one, or as many as a packed row holds.

        Args:
            raw: The row.
            found: What `format_of` said of it, where that is known.
        """
        if raw.fault is not None:
            yield Parsed(origin=raw.origin, fault=raw.fault)
        elif not isinstance(raw.value, list) or self.shape.format not in (None, "official"):
            yield self._parse(raw.value, raw.origin, found)
        elif not raw.value:
            fault = raw.origin.error("the packed row holds no sample.", fix="Leave it out.")
            yield Parsed(origin=raw.origin, fault=fault)
        else:
            for part, value in enumerate(raw.value):
                yield self._parse(value, replace(raw.origin, part=part))

    def conversation(self, origin: Origin, offset: int, num_bytes: int) -> Conversation:
        """One sample again, by the place at which it was found.

        Raises:
            DataError: It is not there any more, or cannot be used.
        """
        raw = self.rows.row(replace(origin, part=None), offset, num_bytes)
        if raw.fault is not None:
            raise raw.fault
        value: object = raw.value
        if origin.part is not None:
            parts = value if isinstance(value, list) else []
            if origin.part >= len(parts):
                raise origin.error("the sample is not there any more.", code="source.changed")
            value = parts[origin.part]
        parsed = self._parse(value, replace(raw.origin, part=origin.part))
        if parsed.fault is not None:
            raise parsed.fault
        assert parsed.conversation is not None
        return parsed.conversation

    def format_of(self, raw: RawRow) -> SourceFormat | None:
        """The shape of a row, for the report; None where it has none."""
        if self.shape.format is not None:
            return self.shape.format
        value = raw.value[0] if isinstance(raw.value, list) and raw.value else raw.value
        try:
            return detect_format(value, origin=raw.origin)
        except DataError:
            return None

    def _parse(self, value: object, origin: Origin, found: SourceFormat | None = None) -> Parsed:
        context = RowContext(
            origin=origin, media=self.media, structural_tokens=self.structural_tokens
        )
        try:
            return Parsed(origin=origin, conversation=parse_row(value, context, self.shape, found))
        except DataError as fault:
            return Parsed(origin=origin, fault=fault)


def open_source(
    source: Source,
    *,
    folder: Path,
    structural_tokens: Sequence[str] = STRUCTURAL_TOKENS,
    downloads: Downloads | None = None,
) -> list[SourceReader]:
    """Readers of a source, one for each of its files.

    Args:
        source: The source. One that names an entry of a declaration is replaced first, by
            ``sightline.interop.expand_sources``.
        folder: Where rows may be kept that the source cannot give again.
        structural_tokens: Tokens that text must not contain.
        downloads: Where media are kept that are fetched, and their limits; None for ``downloads``
            in ``folder``. Its hosts are those of the source.

    Raises:
        DataError: The source is not there, or of no known kind.
    """
    downloads = downloads or Downloads(folder=folder / "downloads")
    files, kind = open_rows(source, folder)
    shape = declared_shape(source)
    if kind is not None and shape.format is None:
        shape = replace(shape, format=kind)
    return [
        SourceReader(
            rows=rows,
            shape=shape,
            media=MediaFolder(
                root=_media_root(source),
                strip_prefix=source.strip_prefix,
                allow_outside=source.allow_outside,
                caches=_caches(source),
                downloads=replace(downloads, hosts=tuple(source.url_hosts)),
            ),
            structural_tokens=tuple(structural_tokens),
        )
        for rows in files
    ]


def read_source(
    source: Source,
    *,
    folder: Path | None = None,
    structural_tokens: Sequence[str] = STRUCTURAL_TOKENS,
) -> Iterator[Conversation]:
    """The samples of a source, in order; the first that cannot be used ends the reading.

    Args:
        source: The source.
        folder: Where rows may be kept that the source cannot give again; None for a folder of the
            system's own.
        structural_tokens: Tokens that text must not contain.

    Raises:
        DataError: The source is missing, empty or broken, or a sample is wrong.
        MediaError: An image or video file is not there.
    """
    kept = Path(tempfile.gettempdir()) / "sightline-rows" if folder is None else folder
    for reader in open_source(source, folder=kept, structural_tokens=structural_tokens):
        for chunk in reader.rows.chunks():
            for raw in reader.rows.read(chunk):
                for parsed in reader.parse(raw):
                    if parsed.fault is not None:
                        raise parsed.fault
                    assert parsed.conversation is not None
                    yield parsed.conversation


def _media_root(source: Source) -> Path:
    if source.media_root is not None:
        return Path(source.media_root)
    if source.hub is not None:
        return Path.cwd()
    path = Path(source.title)
    return path if path.is_dir() else path.parent


def _caches(source: Source) -> tuple[Path, ...]:
    """Where ``datasets`` keeps the media of a hub data set that are files of their own."""
    if source.hub is None:
        return ()
    # Slow to import, and most runs have no use for it.
    from datasets import config
    from huggingface_hub import constants

    return Path(config.HF_DATASETS_CACHE), Path(constants.HF_HUB_CACHE)
