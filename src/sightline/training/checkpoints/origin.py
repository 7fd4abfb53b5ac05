"""What a run was started from, kept in every checkpoint: configuration, data, base, versions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from torch import nn

from sightline.config import RunConfig
from sightline.data.index import IndexedFile
from sightline.preparation import PreparedData
from sightline.records import collect_versions
from sightline.tuning import TuningPlan, named_parameters, trained_parameters

_VALUES_A_TENSOR = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFile:
    """A file of the data as it was.

    Attributes:
        path: The file, or the name of a table.
        rows: Digest of its rows, in their places.
        media: Digest of the sizes of its media, in the order of the rows.
        newest_ns: Time of the medium that was changed last, nanoseconds; 0 where there is none.
    """

    path: str
    rows: str
    media: str
    newest_ns: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """What decides a run, beside chance.

    Attributes:
        config: The resolved configuration.
        fingerprint: That of the data, fitted.
        files: Files of the data.
        base: Digest of a sample of every weight that does not train.
        versions: Versions of Python and the libraries.
        world_size: Processes.
    """

    config: dict[str, Any]
    fingerprint: str
    files: tuple[SourceFile, ...]
    base: str
    versions: dict[str, str]
    world_size: int

    @classmethod
    def of(
        cls,
        config: RunConfig,
        data: PreparedData,
        model: nn.Module,
        plan: TuningPlan,
        *,
        world_size: int,
    ) -> Origin:
        """The origin of a run that begins, or goes on, now.

        Args:
            config: Its configuration.
            data: Its data.
            model: The planned model, before it is shared out to processes.
            plan: Its plan.
            world_size: Processes.
        """
        parts = [data.train, data.eval] if data.eval is not None else [data.train]
        return cls(
            config=config.model_dump(mode="json"),
            fingerprint=data.fingerprint,
            files=tuple(_source_file(file) for part in parts for file in part.files),
            base=base_digest(model, plan),
            versions=collect_versions(),
            world_size=world_size,
        )

    def record(self) -> dict[str, Any]:
        """The origin as ``state.json`` keeps it."""
        return asdict(self)

    @classmethod
    def read(cls, record: dict[str, Any]) -> Origin:
        """An origin from a checkpoint.

        Raises:
            TypeError, KeyError: The record is of another shape.
        """
        values: dict[str, Any] = dict(record)
        values["files"] = tuple(SourceFile(**file) for file in record["files"])
        return cls(**values)


def base_digest(model: nn.Module, plan: TuningPlan) -> str:
    """A digest of what no step moves: a model that was trained otherwise has another.

    At most 4,096 values of each weight, spread evenly, are looked at.

    Args:
        model: The planned model.
        plan: Its plan.
    """
    trained = {id(item.parameter) for item in trained_parameters(model, plan)}
    digest = hashlib.blake2b(digest_size=16)
    for item in named_parameters(model):
        if id(item.parameter) in trained or item.is_copy:
            continue
        parameter = item.parameter.detach()
        digest.update(f"{item.name} {parameter.dtype} {tuple(parameter.shape)}".encode())
        if parameter.numel():
            step = max(parameter.numel() // _VALUES_A_TENSOR, 1)
            sample = parameter.reshape(-1)[::step][:_VALUES_A_TENSOR].cpu().contiguous()
            digest.update(sample.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _source_file(file: IndexedFile) -> SourceFile:
    # Files of the index are named by the content and place of the rows in them.
    rows = hashlib.blake2b("\n".join(file.names).encode(), digest_size=12).hexdigest()
    media = hashlib.blake2b(digest_size=12)
    newest = 0
    for sizes, times in _media(file):
        media.update(sizes.tobytes())
        newest = max(newest, times)
    return SourceFile(
        path=str(file.reader.rows.file), rows=rows, media=media.hexdigest(), newest_ns=newest
    )


def _media(file: IndexedFile) -> Iterator[tuple[np.ndarray, int]]:
    """Sizes of the media of each file of the index, and the newest of their times."""
    for table in file.tables():
        media = table.column("media").combine_chunks().flatten()
        sizes = media.field("num_bytes").fill_null(-1).to_numpy(zero_copy_only=False)
        newest = pc.call_function("max", [media.field("mtime_ns")]).as_py()
        yield sizes, newest or 0
