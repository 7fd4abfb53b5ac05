"""Packed rows and blanks by hand: what the collator makes of samples of a few tokens."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sightline.data import Collator
from sightline.data.blanks import Blanks
from sightline.errors import LayoutError
from sightline.families import FAMILIES
from sightline.geometry import Patching
from sightline.positions import PositionRule, layout_of_ids

IMAGE, VIDEO, PAD = 90, 91, 99


def rule(family: str = "qwen2_5_vl", *, videos: bool = True) -> PositionRule:
    return PositionRule(
        rope=FAMILIES[family].rope,
        image_token_id=IMAGE,
        video_token_id=VIDEO if videos else None,
        spatial_merge_size=2,
        tokens_per_second=2.0,
    )


def sample(ids: list[int], labels: list[int], grids: list[tuple[int, int, int]]) -> Any:
    """What the collator reads of an encoded sample."""
    row = np.array(ids)
    return SimpleNamespace(
        input_ids=row,
        labels=np.array(labels),
        num_tokens=len(ids),
        layout=layout_of_ids(row, rule(), image_grid_thw=grids),
        conversation=SimpleNamespace(origin="data.jsonl:1"),
        images=grids,
        videos=[],
    )


def pixels(one: Any) -> dict[str, torch.Tensor]:
    if not one.images:
        return {}
    count = sum(t * h * w for t, h, w in one.images)
    return {
        "pixel_values": torch.full((count, 12), len(one.input_ids), dtype=torch.uint8),
        "image_grid_thw": torch.tensor(one.images),
    }


def collator(*, packs: bool = True, raw: bool = True) -> Collator:
    patching = Patching(patch_size=2, temporal_patch_size=2, spatial_merge_size=2)
    preprocessing: Any = SimpleNamespace(image_patching=patching, video_patching=patching)
    loader: Any = pixels
    blanks = Blanks(rule(), preprocessing, takes_raw=raw, filler=PAD)
    return Collator(pixels=loader, rule=rule(), pad_token_id=PAD, packs=packs, blanks=blanks)


FIRST = sample([1, IMAGE, IMAGE, 2, 3], [-100, -100, -100, 2, 3], [(1, 2, 4)])
SECOND = sample([4, 5, 6], [4, -100, 6], [])


def test_a_packed_row_by_hand() -> None:
    batch = collator()([FIRST, SECOND])
    assert batch["input_ids"].tolist() == [[1, IMAGE, IMAGE, 2, 3, 4, 5, 6]]
    # The first label of the second sample is gone: the token before it is another sample's.
    assert batch["labels"].tolist() == [[-100, -100, -100, 2, 3, -100, -100, 6]]
    assert batch["position_ids"][:, 0].tolist() == [
        [0, 1, 2, 3, 4, 0, 1, 2],
        [0, 1, 1, 3, 4, 0, 1, 2],
        [0, 1, 1, 3, 4, 0, 1, 2],
        [0, 1, 2, 3, 4, 0, 1, 2],
    ]
    assert batch["cu_seqlens"].tolist() == [0, 5, 8]
    assert batch["cu_seqlens"].dtype == torch.int32
    assert "attention_mask" not in batch
    assert batch["image_grid_thw"].tolist() == [[1, 2, 4]]


def test_the_samples_are_those_of_a_padded_batch() -> None:
    row, rows = collator()([FIRST, SECOND]), collator(packs=False)([FIRST, SECOND])
    mask = rows["attention_mask"].bool()
    assert row["input_ids"][0].tolist() == rows["input_ids"][mask].tolist()
    assert torch.equal(row["position_ids"][:, 0], rows["position_ids"][:, mask])
    assert torch.equal(row["pixel_values"], rows["pixel_values"])


def test_a_blank_picture_comes_last() -> None:
    batch = collator()([SECOND], blank_image=True)
    assert batch["input_ids"].tolist() == [[4, 5, 6, PAD, IMAGE, PAD]]
    assert batch["labels"].tolist() == [[-100, -100, 6, -100, -100, -100]]
    assert batch["cu_seqlens"].tolist() == [0, 3, 6]
    assert batch["image_grid_thw"].tolist() == [[1, 2, 2]]
    assert batch["pixel_values"].shape == (4, 12)
    assert batch["pixel_values"].dtype == torch.uint8
    # The processor's floats hold a still picture twice.
    floats = collator(raw=False)([SECOND], blank_image=True)["pixel_values"]
    assert floats.shape == (4, 24)
    assert floats.dtype == torch.float32


def test_nothing_but_blanks() -> None:
    batch = collator()([], blank_video=True)
    assert batch["input_ids"].tolist() == [[PAD, VIDEO, PAD]]
    assert batch["video_grid_thw"].tolist() == [[1, 2, 2]]
    assert batch["second_per_grid_ts"].tolist() == [1.0]
    assert batch["pixel_values_videos"].shape == (4, 24)
    assert collator()([])["input_ids"].tolist() == [[PAD, PAD]]
    assert (collator(packs=False)([])["labels"] == -100).all()


def test_a_family_without_videos_has_no_blank_one() -> None:
    patching = Patching(patch_size=2, temporal_patch_size=2, spatial_merge_size=2)
    preprocessing: Any = SimpleNamespace(image_patching=patching, video_patching=patching)
    blanks = Blanks(rule(videos=False), preprocessing, takes_raw=True, filler=PAD)
    with pytest.raises(LayoutError, match="images only"):
        blanks.video()
