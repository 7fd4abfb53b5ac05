"""Patches kept on disk: found by content and budget, never half, never in the way."""

from __future__ import annotations

import errno
import logging
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sightline.config import DataConfig
from sightline.data import LeanPixels, PatchCache, read_source
from sightline.data.conversation import ImagePart
from sightline.model import open_checkpoint
from sightline.preparation import make_encoder

SHAPE = (4, 6)


class Maker:
    """Makes patches, and counts how often it had to."""

    def __init__(self) -> None:
        self.contents: list[bytes | None] = []

    def __call__(self, content: bytes | None) -> np.ndarray:
        self.contents.append(content)
        number = sum(content or b"") % 251
        return np.full(SHAPE, number, dtype=np.uint8)


@pytest.fixture
def made() -> Maker:
    return Maker()


@pytest.fixture
def picture(tmp_path: Path) -> ImagePart:
    path = tmp_path / "a.png"
    path.write_bytes(b"one picture")
    return ImagePart(path=path, field="image")


def _entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_made_once_and_the_same_after(tmp_path: Path, picture: ImagePart, made: Maker) -> None:
    cache = PatchCache(tmp_path / "cache")
    first = cache.patches(picture, SHAPE, "told", made)
    again = PatchCache(tmp_path / "cache").patches(picture, SHAPE, "told", made)
    np.testing.assert_array_equal(first, again)
    assert made.contents == [b"one picture"]
    # What is taken from the cache becomes a tensor that training may write to.
    assert again.flags.writeable


def test_other_content_and_another_budget_are_other_entries(
    tmp_path: Path, picture: ImagePart, made: Maker
) -> None:
    cache = PatchCache(tmp_path / "cache")
    first = cache.patches(picture, SHAPE, "told", made)
    cache.patches(picture, SHAPE, "told otherwise", made)
    picture.path.write_bytes(b"another one")
    changed = cache.patches(picture, SHAPE, "told", made)
    assert len(made.contents) == len(_entries(tmp_path / "cache")) == 3
    assert changed[0, 0] != first[0, 0]


def test_the_same_picture_under_another_name_is_found(
    tmp_path: Path, picture: ImagePart, made: Maker
) -> None:
    cache = PatchCache(tmp_path / "cache")
    cache.patches(picture, SHAPE, "told", made)
    inside = ImagePart(path=Path("row 3"), field="image", content=b"one picture")
    cache.patches(inside, SHAPE, "told", made)
    assert made.contents == [b"one picture"]


@pytest.mark.parametrize("damage", [b"", bytes(23), bytes(25)])
def test_an_entry_that_is_not_whole_is_made_again(
    damage: bytes, tmp_path: Path, picture: ImagePart, made: Maker
) -> None:
    cache = PatchCache(tmp_path / "cache")
    first = cache.patches(picture, SHAPE, "told", made)
    [entry] = _entries(tmp_path / "cache")
    entry.write_bytes(damage)
    np.testing.assert_array_equal(cache.patches(picture, SHAPE, "told", made), first)
    assert len(made.contents) == 2
    np.testing.assert_array_equal(cache.patches(picture, SHAPE, "told", made), first)
    assert len(made.contents) == 2


def test_a_full_disk_ends_the_keeping_and_nothing_else(
    tmp_path: Path,
    picture: ImagePart,
    made: Maker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    cache = PatchCache(tmp_path / "cache")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert cache.patches(picture, SHAPE, "told", made).shape == SHAPE
    assert _entries(tmp_path / "cache") == []
    assert [record.message for record in caplog.records] == [
        f"{tmp_path / 'cache'}: No space left on device; no more patches are kept."
    ]


def test_a_file_that_is_not_there_is_left_to_who_makes_the_patches(
    tmp_path: Path, made: Maker
) -> None:
    gone = ImagePart(path=tmp_path / "gone.png", field="image")
    PatchCache(tmp_path / "cache").patches(gone, SHAPE, "told", made)
    assert made.contents == [None]


def _fill(folder: Path, path: Path, number: int) -> None:
    cache = PatchCache(folder)
    part, shape = ImagePart(path=path, field="image"), (500, 600)
    for round_ in range(30):
        got = cache.patches(
            part, (500, 600), round_, lambda _: np.full((500, 600), 7, dtype=np.uint8)
        )
        assert got.shape == shape, number
        assert (got == 7).all(), number


def test_several_processes_in_one_folder(tmp_path: Path, picture: ImagePart) -> None:
    context = multiprocessing.get_context("fork")
    workers = [
        context.Process(target=_fill, args=(tmp_path / "cache", picture.path, number))
        for number in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert len(_entries(tmp_path / "cache")) == 30


def test_pictures_and_videos_through_the_cache_are_the_same(
    tmp_path: Path,
    shapes_folder: Path,
    tiny_folder: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = DataConfig.model_validate({"train": str(shapes_folder / "train.jsonl")})
    checkpoint = open_checkpoint(str(tiny_folder("qwen2_5_vl")), data)
    assert checkpoint.recipes is not None
    encoder = make_encoder(checkpoint)
    tokens = checkpoint.family.tokens.structural()
    samples = [encoder.encode(one) for one in read_source(data.train[0], structural_tokens=tokens)]
    assert any(sample.videos for sample in samples)
    plain = LeanPixels(checkpoint.preprocessing, checkpoint.recipes)
    kept_in = PatchCache(tmp_path / "cache")
    cached = LeanPixels(checkpoint.preprocessing, checkpoint.recipes, kept_in)
    for sample in samples:
        cached(sample)
    # From here on nothing is decoded.
    monkeypatch.setattr("sightline.data.pixels.lean.seen_image", None)
    monkeypatch.setattr("sightline.data.pixels.lean.seen_frames", None)
    kept = [cached(sample) for sample in samples]
    monkeypatch.undo()
    for sample, tensors in zip(samples, kept, strict=True):
        wanted = plain(sample)
        assert tensors.keys() == wanted.keys()
        assert all(torch.equal(tensors[key], wanted[key]) for key in wanted)
