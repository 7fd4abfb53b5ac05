"""The fast decoder and Pillow agree on damaged JPEGs, byte by byte, and nobody prints."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.data.conversation import ImagePart, Origin
from sightline.data.pixels import decoding
from sightline.errors import MediaError

ORIGIN = Origin(file=Path("rows.jsonl"), line=1, index=0)
NUM_FILES = 400
KINDS: dict[str, dict[str, Any]] = {
    "baseline": {"quality": 85},
    "progressive": {"progressive": True},
    "no subsampling": {"quality": 95, "subsampling": 0},
    "restart markers": {"restart_marker_rows": 2},
}


def _whole(options: dict[str, Any]) -> bytes:
    small = np.random.default_rng(0).integers(0, 256, (15, 20, 3), dtype=np.uint8)
    target = io.BytesIO()
    Image.fromarray(small).resize((160, 120)).save(target, "JPEG", **options)
    return target.getvalue()


def _damaged(whole: bytes, chosen: random.Random) -> bytes:
    data, at = bytearray(whole), chosen.randrange(len(whole))
    how = chosen.choice(["cut", "flip", "flip", "zero", "insert", "repeat"])
    if how == "cut":
        del data[at:]
    elif how == "flip":
        for _ in range(chosen.choice([1, 1, 3, 20])):
            data[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
    elif how == "zero":
        data[at : at + 20] = bytes(len(data[at : at + 20]))
    elif how == "insert":
        data[at:at] = chosen.randbytes(5)
    else:
        data[at:at] = data[at : at + 30]
    return bytes(data)


def _decoded(part: ImagePart) -> torch.Tensor | None:
    try:
        return decoding.decode_picture(part, ORIGIN)
    except MediaError:
        return None


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(
    kind: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    whole, chosen = _whole(KINDS[kind]), random.Random(kind)
    files = [_damaged(whole, chosen) for _ in range(NUM_FILES)]
    parts = [ImagePart(path=Path("a.jpg"), field="image", content=data) for data in files]
    given = [_decoded(part) for part in parts]
    monkeypatch.setattr(decoding, "_is_ordinary_jpeg", lambda *_: False)
    by_pillow = [_decoded(part) for part in parts]
    read = 0
    for one, other in zip(given, by_pillow, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert torch.equal(one, other)
            read += 1
    # Neither all of them nor none: both sides have something to disagree on.
    assert NUM_FILES // 5 < read < NUM_FILES
    assert capfd.readouterr() == ("", "")
