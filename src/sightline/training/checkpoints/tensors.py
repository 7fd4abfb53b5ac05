"""Tensors in safetensors files: written one after another, read where they lie.

Safetensors' own writer wants all tensors of a file at once. Here the header is made of shapes and
dtypes alone, so that one tensor is held at a time, and a digest is taken while it is written.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

import torch
from safetensors import SafetensorError, safe_open

from sightline.errors import RunError

SHARD_BYTES = 2 * 2**30
"""Most bytes of tensors in a file; a larger tensor has one to itself."""

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_ALIGNMENT = 8


class TensorSpec(NamedTuple):
    """What is known of a tensor before it is there.

    Attributes:
        name: Its name in the file.
        shape: Its whole shape, over all processes.
        dtype: Its dtype.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def num_bytes(self) -> int:
        """Bytes of its values."""
        return prod(self.shape) * self.dtype.itemsize


class WrittenFile(NamedTuple):
    """A file that was written whole.

    Attributes:
        name: Its name in the folder.
        num_bytes: Its size.
        digest: blake2b of its bytes, 16 bytes in hexadecimal.
    """

    name: str
    num_bytes: int
    digest: str


class TensorWriter:
    """Writes tensors in the order of their specs, in as many files as they need.

    One file is called ``STEM.safetensors``; several are ``STEM-00001-of-00003.safetensors``.

    Args:
        folder: Where they go.
        stem: What they are called.
        specs: Every tensor that will be written.
        shard_bytes: Most bytes of tensors in a file.
    """

    def __init__(
        self,
        folder: Path,
        stem: str,
        specs: Sequence[TensorSpec],
        *,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        self._folder = folder
        self._shards = _shards(specs, shard_bytes)
        self._names = _file_names(stem, len(self._shards))
        self._written: list[WrittenFile] = []
        self._file: BinaryIO | None = None
        self._waiting: list[TensorSpec] = []

    def write(self, tensor: torch.Tensor) -> None:
        """Write the next tensor.

        Args:
            tensor: Any device; its shape and dtype are those of its spec.

        Raises:
            OSError: The file system refuses.
        """
        file = self._opened()
        spec = self._waiting.pop(0)
        assert (tuple(tensor.shape), tensor.dtype) == (spec.shape, spec.dtype), spec.name
        if spec.num_bytes:
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            self._put(file, flat.view(torch.uint8).numpy().data)
        if not self._waiting:
            self._end(file)

    def written(self) -> list[WrittenFile]:
        """The files, every tensor being written."""
        if not self._written:
            # No tensor at all is a file with none, so that it can be told from one that is lost.
            file = self._opened()
            self._end(file)
        assert len(self._written) == len(self._shards)
        return self._written

    def __enter__(self) -> TensorWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def _opened(self) -> BinaryIO:
        if self._file is None:
            number = len(self._written)
            self._waiting = list(self._shards[number])
            self._digest = hashlib.blake2b(digest_size=16)
            self._num_bytes = 0
            self._file = (self._folder / self._names[number]).open("xb", buffering=0)
            self._put(self._file, memoryview(_header(self._waiting)))
        return self._file

    def _put(self, file: BinaryIO, content: memoryview) -> None:
        self._digest.update(content)
        self._num_bytes += len(content)
        while content:
            # One call writes at most 2 GiB, and less where the disk becomes full.
            content = content[file.write(content) :]

    def _end(self, file: BinaryIO) -> None:
        os.fsync(file.fileno())
        file.close()
        self._file = None
        name = self._names[len(self._written)]
        self._written.append(WrittenFile(name, self._num_bytes, self._digest.hexdigest()))


class TensorFiles:
    """Tensors of a folder, mapped: what is not asked for is not read.

    Args:
        folder: The folder.
        stem: What the files are called.

    Raises:
        RunError: There is none, or one is broken.
    """

    def __init__(self, folder: Path, stem: str) -> None:
        self._folder = folder
        paths = sorted(
            path for path in folder.glob(f"{stem}*.safetensors") if _is_of(path.name, stem)
        )
        if not paths:
            raise RunError(f"{folder}: {stem}.safetensors is missing.")
        self._files: dict[str, Any] = {}
        for path in paths:
            try:
                opened: Any = safe_open(str(path), framework="pt")
            except (SafetensorError, OSError) as error:
                raise RunError(f"{path}: the file is broken: {error}.") from error
            self._files |= dict.fromkeys(opened.keys(), opened)

    @property
    def names(self) -> list[str]:
        """Names of all tensors."""
        return list(self._files)

    def tensor(self, name: str) -> torch.Tensor:
        """A whole tensor, on the CPU, as a copy."""
        return self._files[name].get_tensor(name).clone()

    def dtype(self, name: str) -> torch.dtype:
        """Dtype of a tensor."""
        held = self._files[name].get_slice(name).get_dtype()
        return next(dtype for dtype, said in _DTYPES.items() if said == held)

    def shape(self, name: str) -> tuple[int, ...]:
        """Whole shape of a tensor."""
        return tuple(self._files[name].get_slice(name).get_shape())

    @torch.no_grad()
    def read_into(self, name: str, part: torch.Tensor, where: tuple[slice, ...]) -> None:
        """Copy a part of a tensor.

        Args:
            name: Which.
            part: Where to: any device, of the shape of the part.
            where: Which part, a slice for each dimension.

        Raises:
            RunError: The tensor of the file has another number of dimensions or is too small.
        """
        held = self._files[name]
        # A number without dimensions cannot be sliced.
        found = held.get_slice(name)[where] if where else held.get_tensor(name)
        if found.shape != part.shape:
            raise RunError(
                f"{self._folder}: {name} is {list(self.shape(name))} in the checkpoint, and "
                f"another shape in the model (this part: {list(part.shape)}).\n"
                "The checkpoint is of another model. Start the run anew with --overwrite."
            )
        part.copy_(found)


def _shards(specs: Sequence[TensorSpec], most: int) -> list[list[TensorSpec]]:
    shards: list[list[TensorSpec]] = [[]]
    size = 0
    for spec in specs:
        if shards[-1] and size + spec.num_bytes > most:
            shards.append([])
            size = 0
        shards[-1].append(spec)
        size += spec.num_bytes
    return shards


def _file_names(stem: str, count: int) -> list[str]:
    if count == 1:
        return [f"{stem}.safetensors"]
    return [f"{stem}-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]


def _is_of(name: str, stem: str) -> bool:
    return name == f"{stem}.safetensors" or name.startswith(f"{stem}-")


def _header(specs: Sequence[TensorSpec]) -> bytes:
    """Eight bytes of length and the JSON that safetensors reads."""
    table: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for spec in specs:
        end = start + spec.num_bytes
        table[spec.name] = {
            "dtype": _DTYPES[spec.dtype],
            "shape": list(spec.shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(table, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
