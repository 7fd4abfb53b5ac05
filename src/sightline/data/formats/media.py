"""From the path that a row names to a file that is there, and the errors about media files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from sightline.data.conversation import Origin
from sightline.errors import MediaError

MAX_SHOWN_CHARS = 200


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
    """

    path: Path
    origin: Origin | None = None
    field: str | None = None

    def error(self, what: str, *, fix: str) -> MediaError:
        """An error about this file. ``what`` continues a sentence that begins with its path."""
        what = f"{self.path} {what}"
        if self.origin is None:
            return MediaError(what, fix=fix)
        file, line = self.origin.file, self.origin.line
        return MediaError(what, file=file, line=line, field=self.field, fix=fix)


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaFolder:
    """Where the media files of a source lie.

    Attributes:
        root: The folder that relative paths start from.
        strip_prefix: Leading folders that the rows carry and the disk does not, taken off a path
            that begins with them before it is joined to ``root``. Whole folder names count:
            ``demo`` is a prefix of ``demo/a.png`` and not of ``demo2/a.png``.
    """

    root: Path
    strip_prefix: str | None = None

    def resolve(self, written: str, *, origin: Origin, field: str) -> Path:
        """The absolute path of a media file that exists.

        Args:
            written: The path as the row has it: relative, absolute, or with ``file://``.
            origin: The sample, for the message.
            field: The field, for the message.

        Raises:
            MediaError: It is empty, an address on a network, or not a file.
        """
        self._refuse_addresses(written, origin=origin, field=field)
        candidates = self._candidates(written)
        for path in candidates:
            if _is_file(path):
                return path
        missing = MediaFile(path=candidates[0], origin=origin, field=field)
        if _is_folder(missing.path):
            fix = "Name the media file. A video as a folder or a list of pictures is not read."
            raise missing.error("is a folder, not a file.", fix=fix)
        raise missing.error("does not exist.", fix=self._fix_for_missing(written))

    def _refuse_addresses(self, written: str, *, origin: Origin, field: str) -> None:
        if not written.strip():
            what, fix = "the path is empty.", "Name the media file."
        elif written.startswith(("http://", "https://", "data:", "oss://", "s3://")):
            what = f"{shortened(written)} is an address or inline data, not a file."
            fix = "Save it as a file and name that: Sightline fetches nothing while it trains."
        else:
            return
        raise MediaError(what, file=origin.file, line=origin.line, field=field, fix=fix)

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
        # Not resolved through links: a path in a message is the one that the user knows.
        return (self.root / path).absolute()

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
            if _is_file(self.root.joinpath(*parts[start:])):
                return str(PurePosixPath(*parts[:start]))
        return None


def _is_file(path: Path) -> bool:
    # A name that no file system accepts (too long, a zero byte) is not there either.
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False
