"""Where the installed transformers agrees with the published code, and where it does not.

A test that says "differs" fails when a release mends the difference: then the work-around and
the words about it in checks/positions.py and the documents can go.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sightline.model import load_weights, open_checkpoint
from sightline.positions import place_batch

FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


@pytest.fixture(scope="module", params=FAMILY_KEYS)
def pair(request: pytest.FixtureRequest, tiny_folder: Callable[[str], Path]):
    folder = str(tiny_folder(request.param))
    return open_checkpoint(folder), load_weights(folder, dtype=torch.float32)


def _sequence(checkpoint, *items: tuple[str, int] | tuple[str, tuple[int, int, int]]):
    """Token ids, token types and grids of a made-up sequence."""
    rule = checkpoint.position_rule
    frames_are_spans = rule.rope.temporal_rule == "frame_per_span"
    ids: list[int] = []
    images, videos = [], []
    for kind, what in items:
        if kind == "text":
            ids += [5] * what
        elif kind == "image":
            images.append(what)
            ids += [rule.image_token_id] * (what[0] * what[1] * what[2] // 4)
        else:
            videos.append(what)
            per_grid = [rule.video_token_id] * (what[1] * what[2] // 4)
            separator = [5] if frames_are_spans else []
            for _ in range(what[0]):
                ids += separator + per_grid
    tokens = torch.tensor([ids])
    types = (tokens == rule.image_token_id).int() + 2 * (tokens == rule.video_token_id).int()
    return {
        "input_ids": tokens,
        "mm_token_type_ids": types,
        "image_grid_thw": torch.tensor(images) if images else None,
        "video_grid_thw": torch.tensor(videos) if videos else None,
    }


def _both(pair, *items, seconds: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    checkpoint, model = pair
    inputs = _sequence(checkpoint, *items)
    count = 0 if inputs["video_grid_thw"] is None else len(inputs["video_grid_thw"])
    times = torch.tensor([seconds] * count)
    theirs, _ = model.model.get_rope_index(**inputs, second_per_grid_ts=times)
    types = inputs.pop("mm_token_type_ids")
    assert types.shape == inputs["input_ids"].shape
    ids = inputs.pop("input_ids")
    ours = place_batch(ids, checkpoint.position_rule, second_per_grid_ts=times, **inputs)
    return theirs, ours.model_position_ids[1:]


def test_images_are_placed_alike(pair) -> None:
    theirs, ours = _both(
        pair, ("text", 4), ("image", (1, 4, 8)), ("text", 2), ("image", (1, 6, 2)), ("text", 3)
    )
    assert torch.equal(theirs, ours)


def test_a_video_shorter_than_its_sides_is_placed_alike(pair) -> None:
    theirs, ours = _both(pair, ("text", 4), ("video", (2, 8, 8)), ("text", 3))
    assert torch.equal(theirs, ours)


def test_text_after_a_long_video_is_placed_differently_by_transformers(pair) -> None:
    """Upstream fault in Qwen2-VL and Qwen2.5-VL from transformers 5.3 on (D01)."""
    checkpoint, _ = pair
    theirs, ours = _both(pair, ("text", 4), ("video", (12, 4, 4)), ("text", 3))
    if checkpoint.position_rule.rope.temporal_rule == "frame_per_span":
        assert torch.equal(theirs, ours)
        return
    first_text = ours.shape[-1] - 3
    grids = 12 * (2 if checkpoint.position_rule.tokens_per_second else 1)
    last_of_video = 4 + grids - (2 if checkpoint.position_rule.tokens_per_second else 1)
    assert torch.equal(theirs[..., :first_text], ours[..., :first_text])
    assert ours[0, 0, first_text] == last_of_video + 1
    assert theirs[0, 0, first_text] == 4 + 2
