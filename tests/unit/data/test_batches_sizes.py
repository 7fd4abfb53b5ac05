"""Sizes from the plan of the data against the samples themselves, opened and encoded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from sightline.config import DataConfig, RunConfig
from sightline.data import EncodedSample
from sightline.data.batches import CostRates, sizes_of
from sightline.data.items import Patches, patches_of
from sightline.data.samples import PlannedSamples
from sightline.model import open_checkpoint
from sightline.preparation import prepare_data

RATES = CostRates(
    per_token=3.0,
    per_token_pair=0.25,
    per_supervised_token=7.0,
    per_patch=11.0,
    per_patch_pair=0.5,
)


def said(words: str, answer: str, **media: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": words}, {"role": "assistant", "content": answer}]
    return {"messages": turns, **media}


@pytest.fixture
def samples(
    tmp_path: Path, tiny_folder: Callable[[str], Path], make_video: ModuleType
) -> Callable[..., PlannedSamples]:
    Image.new("RGB", (500, 400)).save(tmp_path / "large.png")
    Image.new("RGB", (64, 48)).save(tmp_path / "small.png")
    make_video.write_steady_video(tmp_path / "film.mp4", 24)
    turn = [
        {"role": "user", "content": "<image>What is it?" + " really" * 3},
        {"role": "assistant", "content": "A box." + " really" * 3},
    ]
    rows = [
        said("Who?", "Me."),
        said("<image>?", "Large.", images=["large.png"]),
        said("<image><image>?", "Both.", images=["small.png", "large.png"]),
        said("<image>?", "Nothing.", images=["missing.png"]),
        said("<video>?", "A bar moves.", videos=["film.mp4"]),
        said("<video><image>?", "A bar, and grey.", videos=["film.mp4"], images=["small.png"]),
        {"messages": turn * 4, "images": ["small.png"] * 4},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def made(family: str, **data: Any) -> PlannedSamples:
        train = {"path": str(path), "format": "swift", **data.pop("source", {})}
        config = RunConfig(
            model=str(tiny_folder(family)),
            data=DataConfig.model_validate({"train": train, **data}),
            output=str(tmp_path / "run"),
        )
        checkpoint = open_checkpoint(config.model, config.data)
        return prepare_data(config, checkpoint, stop_on_bad=False).train.samples

    return made


def cost_of(sample: EncodedSample) -> float:
    """Counted from the grids of the sample, one frame at a time."""
    frames = [h * w for media in (*sample.images, *sample.videos) for t, h, w in [media.grid_thw]
              for _ in range(t)]  # fmt: skip
    supervised = int((np.asarray(sample.labels) != -100).sum())
    return (
        3 * sample.num_tokens
        + 0.25 * sample.num_tokens**2
        + 7 * supervised
        + 11 * sum(frames)
        + 0.5 * sum(size**2 for size in frames)
    )


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_vl"])
@pytest.mark.parametrize("max_length", [None, 150])
def test_sizes_are_those_of_the_samples(
    samples: Callable[..., PlannedSamples], family: str, max_length: int | None
) -> None:
    # With a limit some are shrunk, and the last is split.
    limit = {"max_length": max_length, "fit": ["shrink", "split", "drop"]} if max_length else {}
    planned = samples(family, **limit)
    sizes = sizes_of(planned, RATES)
    encoded = list(planned)
    assert len(sizes) == len(encoded) == (6 if max_length is None else len(planned))
    assert sizes.num_tokens.tolist() == [one.num_tokens for one in encoded]
    assert sizes.num_supervised_tokens.tolist() == [
        int((np.asarray(one.labels) != -100).sum()) for one in encoded
    ]
    assert sizes.has_images.tolist() == [bool(one.images) for one in encoded]
    assert sizes.has_videos.tolist() == [bool(one.videos) for one in encoded]
    assert sizes.cost.tolist() == pytest.approx([cost_of(one) for one in encoded])
    assert any(sizes.has_videos & sizes.has_images)
    if max_length is not None:
        assert any(planned.item(number).piece for number in range(len(planned)))
        assert any(planned.item(number).image_max_pixels for number in range(len(planned)))


def test_frames_attend_each_to_itself() -> None:
    # A picture of 6 patches, and a video of 3 frames with 4 each; nothing; a picture of 2.
    media = [[(1, 2, 3), (3, 2, 2)], [], [(1, 1, 2)]]
    assert [Patches.of(grids) for grids in media] == [(18, 36 + 3 * 16), (0, 0), (2, 4)]
    rows = [[dict(zip("thw", grid, strict=True)) for grid in grids] for grids in media]
    counts, pairs = patches_of(pa.chunked_array([pa.array(rows[:1]), pa.array(rows[1:])]))
    assert (counts.tolist(), pairs.tolist()) == ([18, 0, 2], [84, 0, 4])
    empty, _ = patches_of(pa.chunked_array([pa.array(rows)[:0]]))
    assert empty.tolist() == []


def test_a_sample_that_is_seen_twice_has_its_size_twice(
    samples: Callable[..., PlannedSamples],
) -> None:
    once = sizes_of(samples("qwen2_vl"), RATES)
    twice = sizes_of(samples("qwen2_vl", source={"weight": 2.0}), RATES)
    assert twice.cost.tolist() == np.repeat(once.cost, 2).tolist()
    assert twice.has_videos.tolist() == np.repeat(once.has_videos, 2).tolist()
