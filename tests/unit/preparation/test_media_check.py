"""Damage inside a file: found when the data are read, where that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sightline.config import RunConfig
from sightline.model import open_checkpoint
from sightline.preparation import PreparedData, prepare_data


@pytest.fixture
def prepare(
    tmp_path: Path, shapes_folder: Path, tiny_folder: Callable[[str], Path]
) -> Callable[..., PreparedData]:
    """Four rows over two pictures and two videos; the second of each is damaged inside."""
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    content = bytearray((tmp_path / "whole.png").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "damaged.png").write_bytes(content)
    clip = sorted((shapes_folder / "videos").glob("*.mp4"))[0].read_bytes()
    (tmp_path / "whole.mp4").write_bytes(clip)
    # The first frame stays: a header is probed with it.
    start = clip.index(b"mdat") - 4
    stop = start + int.from_bytes(clip[start : start + 4], "big")
    middle = (start + stop) // 2
    (tmp_path / "damaged.mp4").write_bytes(clip[:middle] + bytes(stop - middle) + clip[stop:])
    lines = [
        f'{{"{kind}": "{name}.{ending}", "conversations": ['
        f'{{"from": "human", "value": "<{kind}>What?"}}, {{"from": "gpt", "value": "That."}}]}}\n'
        for kind, ending in (("image", "png"), ("video", "mp4"))
        for name in ("whole", "damaged")
    ]
    (tmp_path / "rows.jsonl").write_text("".join(lines))
    checkpoint = open_checkpoint(str(tiny_folder("qwen2_5_vl")))

    def prepared(**data: Any) -> PreparedData:
        config = RunConfig.model_validate(
            {
                "model": "x",
                "data": {"train": str(tmp_path / "rows.jsonl"), "processes": 1, **data},
                "output": str(tmp_path / "run"),
            }
        )
        return prepare_data(config, checkpoint)

    return prepared


def test_damage_inside_a_file_makes_a_bad_sample(
    prepare: Callable[..., PreparedData], tmp_path: Path
) -> None:
    assert len(prepare().train.samples) == 4
    # Another index: what was looked at from outside is looked at again.
    decoded = prepare(media_check="decode").train
    assert len(decoded.samples) == 2
    decoded.write_ledger(tmp_path / "ledger.jsonl", tmp_path / "quarantine.jsonl")
    said = (tmp_path / "quarantine.jsonl").read_text().splitlines()
    assert len(said) == 2
    for line, name in zip(said, ("damaged.png", "damaged.mp4"), strict=True):
        assert name in line
        assert "media.damaged" in line
    assert len(prepare().train.samples) == 4
