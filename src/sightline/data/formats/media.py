"""From what a row says of a media file to the file, and the errors about media files."""

from __future__ import annotations

import base64
import binascii
import io
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal
from urllib.parse import unquote

from sightline.data.conversation import ImagePart, Origin, VideoPart
from sightline.data.downloads import Downloads, FetchError
from sightline.data.formats.frame_lists import is_frame_list, read_frame_list
from sightline.errors import MediaError
from sightline.records import shown_address

MediaKind = Literal["image", "video"]

MAX_SHOWN_CHARS = 200
_ADDRESSES = ("oss://", "s3://", "gs://", "ftp://")
_DATA_URI = re.compile(r"data:[\w.+-]+/[\w.+-]+(;[\w=.+-]+)*;base64,")
# A path this long is none: what follows is base64, if its letters are.
_MIN_BASE64_CHARS = 256
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*")


def shortened(text: str) -> str:
    """The text as a message shows it: quoted, and cut where it is long."""
    return repr(text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}…")


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaFile:
    """One media file, and the sample that names it.

    Attributes:
        path: The file.
        origin: The sample; None where the file stands for itself.
        field: The field of the sample that names the file.
        content: The bytes of the file where they stand in the row.
    """

    path: Path
    origin: Origin | None = None
    field: str | None = None
    content: bytes | None = None

    def open(self) -> BinaryIO:
        """The bytes of the file."""
        return self.path.open("rb") if self.content is None else io.BytesIO(self.content)

    def error(self, what: str, *, fix: str, code: str = "media.damaged") -> MediaError:
        """An error about this file. ``what`` continues a sentence that begins with its path."""
        what = f"{self.path} {what}"
        if self.origin is None:
            return MediaError(what, fix=fix, code=code)
        error = self.origin.error(what, field=self.field, fix=fix, code=code, kind=MediaError)
        assert isinstance(error, MediaError)
        return error


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaFolder:
    """Where the media files of a source lie.

    Attributes:
        root: The folder that relative paths start from.
        strip_prefix: Leading folders that the rows carry and the disk does not, taken off a path
            that begins with them before it is joined to ``root``. Whole folder names count:
            ``demo`` is a prefix of ``demo/a.png`` and not of ``demo2/a.png``.
        allow_outside: Whether paths may lead out of ``root``. Otherwise they are refused as they
            are written, with ``..`` taken out. Links inside ``root`` are followed wherever they
            lead: whoever made them could have copied the file.
        caches: Folders into which a library fetched the data set; its rows name files there.
        downloads: Fetches what is named by an address; None fetches nothing.
    """

    root: Path
    strip_prefix: str | None = None
    allow_outside: bool = False
    caches: tuple[Path, ...] = ()
    downloads: Downloads | None = None
    _base: str = field(init=False, repr=False, compare=False)
    _inside: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_base", str(self.root.absolute()))
        # As it is named, and without "..".
        folders = [self._base, *(os.path.normpath(p.absolute()) for p in (self.root, *self.caches))]
        object.__setattr__(self, "_inside", tuple(f"{folder.rstrip('/')}/" for folder in folders))

    def part(
        self, value: object, kind: MediaKind, *, origin: Origin, field: str
    ) -> ImagePart | VideoPart:
        """The image or video that a row names or holds.

        Args:
            value: A path, an address with ``file://``, a data URI, base64, bytes, or a mapping
                with ``path`` or ``bytes`` as ``datasets`` stores it; for a video also a list of
                pictures (`sightline.data.formats.frame_lists`).
            kind: What it is.
            origin: The sample, for the message.
            field: The field, for the message.

        Raises:
            MediaError: It is none of these, or as in ``resolve``.
        """
        if kind == "video" and is_frame_list(value):
            return read_frame_list(value, self.resolve, origin=origin, field=field)
        make = ImagePart if kind == "image" else VideoPart
        content: bytes | None = None
        if isinstance(value, Mapping):
            content, value = value.get("bytes"), value.get("path")
        if isinstance(value, bytes):
            content, value = value, None
        if isinstance(content, str):
            content = _from_base64(content, origin=origin, field=field)
        if content is None and isinstance(value, str):
            content = self._inline(value, origin=origin, field=field)
        if isinstance(content, bytes):
            name = value if isinstance(value, str) and len(value) <= MAX_SHOWN_CHARS else ""
            shown = f"{origin.file}#{origin.index}/{field}" + (f"/{name}" if name else "")
            return make(path=Path(shown), field=field, content=content)
        if not isinstance(value, str):
            raise origin.error(
                f"a path, bytes or a data URI expected, found {type(value).__name__}.",
                field=field,
                fix=f"Name one {kind} file.",
                code="media.wrong",
                kind=MediaError,
            )
        return make(path=self.resolve(value, origin=origin, field=field), field=field)

    def resolve(self, written: str, *, origin: Origin, field: str) -> Path:
        """The absolute path of a media file that exists.

        Args:
            written: The path as the row has it: relative, absolute, or with ``file://``; or an
                address with ``http://`` or ``https://``, which is fetched where that is allowed.
            origin: The sample, for the message.
            field: The field, for the message.

        Raises:
            MediaError: It is empty, an address that is not fetched, outside of ``root``, or not a
                file.
        """
        if self.strip_prefix is None and ".." not in written and not written.startswith("file:"):
            # The way of nearly all files: one join and one look at the disk.
            joined = written if written.startswith("/") else f"{self._base}/{written}"
            is_inside = joined is not written or self._is_inside(joined)
            if is_inside and written.strip() and _is_file(joined):
                return Path(joined)
        if (fetched := self._fetched(written, origin=origin, field=field)) is not None:
            return fetched
        candidates = self._candidates(written)
        if not (inside := [path for path in candidates if self._is_inside(str(path))]):
            raise self._outside(written, candidates[0], origin=origin, field=field)
        candidates = inside
        for path in candidates:
            if _is_file(path):
                return path
        missing = MediaFile(path=candidates[0], origin=origin, field=field)
        if _is_folder(missing.path):
            fix = "Name the media file. The pictures of a video are listed one by one."
            raise missing.error("is a folder, not a file.", fix=fix, code="media.wrong")
        fix = self._fix_for_missing(written)
        raise missing.error("does not exist.", fix=fix, code="media.missing")

    def _inline(self, written: str, *, origin: Origin, field: str) -> bytes | None:
        """The bytes of a data URI or of base64; None where the text is something else."""
        found = _DATA_URI.match(written)
        if found is not None:
            return _from_base64(written[found.end() :], origin=origin, field=field)
        looks_like_base64 = len(written) >= _MIN_BASE64_CHARS and _BASE64.fullmatch(written)
        return _from_base64(written, origin=origin, field=field) if looks_like_base64 else None

    def _fetched(self, written: str, *, origin: Origin, field: str) -> Path | None:
        """The file of an address, fetched now or earlier; None where a path is written."""
        scheme = written[:MAX_SHOWN_CHARS].lower()
        if not written.strip():
            what, fix, code = "the path is empty.", "Name the media file.", "media.address"
        elif scheme.startswith(("http://", "https://")):
            try:
                return (self.downloads or Downloads(folder=self.root)).fetch(written)
            except FetchError as error:
                shown = shortened(shown_address(written))
                what, fix, code = f"{shown}: {error.what}", error.fix, error.code
        elif scheme.startswith((*_ADDRESSES, "data:")):
            shown = shortened(shown_address(written[: 4 * MAX_SHOWN_CHARS]))
            what = f"{shown} is an address, not a file or base64 data."
            fix, code = "Save it as a file and name that.", "media.address"
        else:
            return None
        raise origin.error(what, field=field, fix=fix, code=code, kind=MediaError)

    def _is_inside(self, path: str) -> bool:
        """Whether a path may be read; it is absolute and has no ``..``."""
        return self.allow_outside or path.startswith(self._inside)

    def _outside(self, written: str, path: Path, *, origin: Origin, field: str) -> MediaError:
        root = os.path.normpath(self._base)
        prefix = None if self.strip_prefix is not None else self._prefix_to_strip(written)
        error = origin.error(
            f"{shortened(str(path))} is not in {root}, the folder of this source's media.",
            field=field,
            fix="Set media_root to a folder above it, or allow_outside: true, beside the data "
            "file's path."
            if prefix is None
            else self._fix_for_missing(written),
            code="media.outside",
            kind=MediaError,
        )
        assert isinstance(error, MediaError)
        return error

    def _candidates(self, written: str) -> list[Path]:
        """Paths to look at, best first. Percent signs in ``file://`` may be escapes or letters."""
        if not written.startswith("file://"):
            return [self._joined(written)]
        plain = written.removeprefix("file://").removeprefix("localhost")
        return list(dict.fromkeys([self._joined(plain), self._joined(unquote(plain))]))

    def _joined(self, written: str) -> Path:
        path = PurePosixPath(written)
        if self.strip_prefix is not None and path.is_relative_to(self.strip_prefix):
            path = path.relative_to(self.strip_prefix)
        # Not resolved through links: a path in a message is the one that the user knows. Without
        # "..", so that what is looked at is what is opened.
        below = Path(os.path.normpath(path))
        is_below = not below.is_absolute() and ".." not in below.parts
        joined = self.root.absolute() / below
        return joined if is_below else Path(os.path.normpath(joined))

    def _fix_for_missing(self, written: str) -> str:
        if self.strip_prefix is None and (prefix := self._prefix_to_strip(written)) is not None:
            return (
                f"{self.root.absolute()} has the file without {shortened(prefix)} in front: set "
                f"strip_prefix to {shortened(prefix)} beside the data file's path."
            )
        if PurePosixPath(written.removeprefix("file://")).is_absolute():
            return "The row holds an absolute path: mend it, or set media_root and strip_prefix."
        return (
            f"The row says {shortened(written)}, looked for below {self.root.absolute()}: set "
            "media_root to the folder that this path starts from."
        )

    def _prefix_to_strip(self, written: str) -> str | None:
        """Leading folders without which the path names a file below the root."""
        parts = PurePosixPath(written).parts
        for start in range(1, len(parts)):
            if ".." not in parts[start:] and _is_file(self.root.joinpath(*parts[start:])):
                return str(PurePosixPath(*parts[:start]))
        return None


def _from_base64(text: str, *, origin: Origin, field: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        what = f"the base64 data cannot be decoded: {error}."
        raise origin.error(
            what, field=field, fix="Write it anew.", code="media.damaged", kind=MediaError
        ) from error


def _is_file(path: str | Path) -> bool:
    # A name that no file system accepts (too long, a zero byte) is not there either.
    try:
        return os.path.isfile(path)  # noqa: PTH113 - asked for every file of every sample
    except (OSError, ValueError):
        return False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False
