"""Patches kept on disk, for the epochs after the first.

An entry is named by what is in the file and by everything that decides its patches: a picture that
changes, or another budget, has another name. Entries are written beside and renamed, so processes
may share a folder.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sightline.data.conversation import ImagePart, VideoPart

_logger = logging.getLogger(__name__)

# Raised when the same name would mean other patches: older entries are never found again.
_VERSION = 1
_CHUNK_BYTES = 1 << 20
# A disk that cannot take more, or may not be written: training goes on without the cache.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


class PatchCache:
    """Patches by content, in a folder.

    Args:
        folder: Where the entries lie; made when the first is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._is_writable = True

    def patches(
        self,
        part: ImagePart | VideoPart,
        shape: tuple[int, int],
        told: object,
        make: Callable[[bytes | None], np.ndarray],
    ) -> np.ndarray:
        """The patches of a medium, from the cache or made and kept.

        Args:
            part: The medium.
            shape: Shape of its patches.
            told: Everything beside the content of the file that decides the patches; its ``repr``
                says it.
            make: Makes the patches, given the bytes of the file where they were read.

        Returns:
            patches: (num_patches, patch_dim) uint8, of ``shape``.

        Raises:
            MediaError: The file cannot be used.
        """
        try:
            content, digest = _read(part)
        except OSError:
            return make(None)
        digest.update(repr((_VERSION, shape, told)).encode())
        name = digest.hexdigest()
        path = self._folder / name[:2] / f"{name}.u8"
        kept = _load(path, shape)
        if kept is None:
            kept = make(content)
            self._keep(path, kept)
        return kept

    def _keep(self, path: Path, patches: np.ndarray) -> None:
        if not self._is_writable:
            return
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with beside.open("wb") as file:
                file.write(patches.data)
            beside.replace(path)
        except OSError as error:
            beside.unlink(missing_ok=True)
            if error.errno not in _FULL:
                raise
            self._is_writable = False
            _logger.warning("%s: %s; no more patches are kept.", self._folder, error.strerror)


def _read(part: ImagePart | VideoPart) -> tuple[bytes | None, hashlib.blake2b]:
    """The bytes of an image, and the digest of what is in the file; a video is not held."""
    digest = hashlib.blake2b(digest_size=20)
    if part.content is not None:
        digest.update(part.content)
        return part.content, digest
    if isinstance(part, ImagePart):
        content = part.path.read_bytes()
        digest.update(content)
        return content, digest
    for path in part.files:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    return None, digest


def _load(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """An entry; None where it is not there or not whole."""
    try:
        patches = np.fromfile(path, dtype=np.uint8)
    except OSError:
        return None
    return patches.reshape(shape) if patches.size == shape[0] * shape[1] else None
