"""The manifest of a checkpoint: every file with its size and digest, written last.

A folder without it, or with a file that differs from it, is no checkpoint.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sightline.errors import RunError
from sightline.records import read_json, write_json
from sightline.training.checkpoints.tensors import WrittenFile

MANIFEST = "manifest.json"
SCHEMA = 1
_READ_BYTES = 8 * 2**20
# A digest of a large file lets the others run; more threads than this read no faster.
_NUM_THREADS = 4


def write_manifest(folder: Path, known: Iterable[WrittenFile] = ()) -> None:
    """Make a folder a checkpoint: digests of its files, all of them handed to the disk.

    Args:
        folder: The folder; all its other files are whole.
        known: Files whose digests were taken while they were written.

    Raises:
        RunError: The file system refuses.
    """
    digests = {file.name: file for file in known}
    files = []
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        if name not in digests:
            _sync(path)
            digests[name] = WrittenFile(name, path.stat().st_size, digest_of(path))
        found = digests[name]
        files.append({"name": name, "num_bytes": found.num_bytes, "blake2b": found.digest})
    write_json(folder / MANIFEST, {"schema": SCHEMA, "files": files})
    sync_folder(folder)


def fault_of(folder: Path) -> str | None:
    """What is wrong with a checkpoint; None where every file is as it was written.

    Args:
        folder: Its folder.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return f"{MANIFEST} is missing: it was not written whole, or not by Sightline"
    try:
        record = read_json(path)
        files = [
            WrittenFile(str(one["name"]), int(one["num_bytes"]), str(one["blake2b"]))
            for one in record["files"]
        ]
    except (RunError, KeyError, TypeError, ValueError) as error:
        return f"{MANIFEST} is broken: {error}"
    if record.get("schema") != SCHEMA:
        return f"{MANIFEST} has schema {record.get('schema')}, this version knows {SCHEMA}"
    # Sizes first: they cost nothing.
    for file in files:
        if fault := _other_size(folder, file):
            return fault
    known = {file.name for file in files}
    for path in _files(folder):
        if (name := path.relative_to(folder).as_posix()) not in known:
            return f"{name} is not in {MANIFEST}"
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        return next(filter(None, pool.map(lambda file: _other_content(folder, file), files)), None)


def digest_of(path: Path) -> str:
    """blake2b of a file, 16 bytes in hexadecimal."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb", buffering=0) as file:
        while content := file.read(_READ_BYTES):
            digest.update(content)
    return digest.hexdigest()


def sync_folder(folder: Path) -> None:
    """Hand the names in a folder to the disk: a file whose name is lost is lost."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / MANIFEST:
            yield path


def _other_size(folder: Path, file: WrittenFile) -> str | None:
    try:
        size = (folder / file.name).stat().st_size
    except OSError as error:
        return f"{file.name} cannot be read: {error.strerror}"
    if size == file.num_bytes:
        return None
    return f"{file.name} has {size:,} bytes, the manifest says {file.num_bytes:,}"


def _other_content(folder: Path, file: WrittenFile) -> str | None:
    try:
        digest = digest_of(folder / file.name)
    except OSError as error:
        return f"{file.name} cannot be read: {error.strerror}"
    if digest == file.digest:
        return None
    return f"{file.name} has the digest {digest}, the manifest says {file.digest}"
