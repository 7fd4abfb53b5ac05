"""Positions equal Qwen's published code on every reference case."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sightline.families import FAMILIES, TRAINABLE_FAMILIES
from sightline.positions import Layout, build_position_ids, text_span, vision_span

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden" / "mrope_reference.json"
TOKENS_PER_SECOND = 2.0


def _cases() -> list[dict]:
    if not GOLDEN.is_file():
        return []
    return json.loads(GOLDEN.read_text(encoding="utf-8"))["cases"]


def _layout(segments: list[dict]) -> Layout:
    spans = []
    for segment in segments:
        if "text" in segment:
            spans.append(text_span(segment["text"]))
        else:
            kind = "image" if "image" in segment else "video"
            spans.append(
                vision_span(
                    kind,
                    segment[kind],
                    spatial_merge_size=2,
                    seconds_per_grid=segment.get("second_per_grid"),
                )
            )
    return Layout(spans=tuple(spans))


def test_the_reference_is_there_and_whole() -> None:
    if not GOLDEN.is_file():
        pytest.skip("../shared/golden/mrope_reference.json is not beside this checkout")
    cases = _cases()
    assert len(cases) == 75
    assert {case["family"] for case in cases} == set(TRAINABLE_FAMILIES)


@pytest.mark.parametrize("case", _cases(), ids=lambda case: case["family"])
def test_positions_equal_the_published_code(case: dict) -> None:
    rope = FAMILIES[case["family"]].rope
    positions = build_position_ids(
        _layout(case["segments"]), rope, tokens_per_second=TOKENS_PER_SECOND
    )
    assert positions.rope_delta == case["rope_delta"]
    np.testing.assert_array_equal(positions.position_ids, np.array(case["position_ids"]))


def test_a_position_off_by_one_is_seen() -> None:
    """The comparison itself can fail: a shifted start is not equal to the reference."""
    layout = Layout(
        spans=(text_span(2), vision_span("video", (3, 2, 2), spatial_merge_size=2), text_span(1))
    )
    positions = build_position_ids(layout, FAMILIES["qwen2_vl"].rope)
    assert positions.position_ids[0].tolist() == [0, 1, 2, 3, 4, 5]
    # The rule of transformers 5.3 and later: height and width only, so text overlaps the video.
    overlapping = 2 + max(1, 1)
    assert positions.position_ids[0, -1] != overlapping
