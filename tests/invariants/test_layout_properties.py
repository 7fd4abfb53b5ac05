"""What holds of positions whatever the layout."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.errors import LayoutError
from sightline.families import FAMILIES, TRAINABLE_FAMILIES
from sightline.positions import (
    Layout,
    PositionRule,
    Span,
    build_position_ids,
    place_batch,
    place_layouts,
    refuse_misplaced,
    text_span,
    vision_span,
)

IMAGE, VIDEO, TEXT, PAD = 90, 91, 5, 0

_sides = st.integers(1, 4).map(lambda side: 2 * side)
_text = st.integers(1, 6).map(text_span)
_image = st.tuples(st.just(1), _sides, _sides).map(
    lambda grid: vision_span("image", grid, spatial_merge_size=2)
)


def _video(family: str) -> st.SearchStrategy[Span]:
    grids = st.just(1) if family == "qwen3_vl" else st.integers(1, 6)
    seconds = st.floats(0.05, 5.0) if family == "qwen2_5_vl" else st.none()
    return st.builds(
        lambda grid, time: vision_span("video", grid, spatial_merge_size=2, seconds_per_grid=time),
        st.tuples(grids, _sides, _sides),
        seconds,
    )


@st.composite
def _layouts(draw: st.DrawFn) -> tuple[str, Layout]:
    family = draw(st.sampled_from(sorted(TRAINABLE_FAMILIES)))
    vision = st.one_of(_image, _video(family))
    # Text stands around every vision span, as the chat templates write it.
    inner = draw(st.lists(st.tuples(vision, _text), max_size=5))
    spans = [draw(_text)]
    for span, text in inner:
        spans += [span, text]
    return family, Layout(spans=tuple(spans))


def _rule(family: str) -> PositionRule:
    return PositionRule(
        rope=FAMILIES[family].rope,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        spatial_merge_size=2,
        tokens_per_second=2.0 if family == "qwen2_5_vl" else None,
    )


def _place(family: str, layout: Layout):
    rule = _rule(family)
    return build_position_ids(layout, rule.rope, tokens_per_second=rule.tokens_per_second)


@settings(max_examples=150, deadline=None)
@given(_layouts())
def test_text_continues_after_the_maximum_of_all_axes(made: tuple[str, Layout]) -> None:
    family, layout = made
    positions, delta = _place(family, layout)
    start = 0
    for span in layout.spans:
        here = positions[:, start : start + span.num_tokens]
        expected = 0 if start == 0 else positions[:, :start].max() + 1
        assert here.min() == expected
        if span.kind == "text":
            np.testing.assert_array_equal(here, np.tile(here[0], (3, 1)))
        start += span.num_tokens
    assert delta == positions.max() + 1 - layout.num_tokens


@settings(max_examples=100, deadline=None)
@given(_layouts(), st.integers(0, 5), st.booleans())
def test_nothing_depends_on_padding(made: tuple[str, Layout], pad: int, left: bool) -> None:
    family, layout = made
    ids, grids = [], {"image": [], "video": []}
    for span in layout.spans:
        ids += [{"text": TEXT, "image": IMAGE, "video": VIDEO}[span.kind]] * span.num_tokens
        if span.merged_grid_thw is not None:
            t, h, w = span.merged_grid_thw
            grids[span.kind].append((t, 2 * h, 2 * w))
    seconds = [span.seconds_per_grid for span in layout.spans if span.kind == "video"]
    padding, real = [PAD] * pad, [1] * len(ids)
    row = padding + ids if left else ids + padding
    mask = [0] * pad + real if left else real + [0] * pad
    placed = place_batch(
        torch.tensor([row]),
        _rule(family),
        attention_mask=torch.tensor([mask]),
        image_grid_thw=torch.tensor(grids["image"]) if grids["image"] else None,
        video_grid_thw=torch.tensor(grids["video"]) if grids["video"] else None,
        second_per_grid_ts=seconds if family == "qwen2_5_vl" and seconds else None,
    )
    kept = torch.tensor(mask).bool()
    expected, delta = _place(family, layout)
    np.testing.assert_array_equal(placed.model_position_ids[1:, 0][:, kept].numpy(), expected)
    assert placed.rope_deltas.tolist() == [[delta]]
    assert placed.model_position_ids[0, 0][kept].tolist() == list(range(len(ids)))


@settings(max_examples=100, deadline=None)
@given(st.lists(_layouts(), min_size=2, max_size=4), st.integers(0, 3), st.integers(0, 3))
def test_packed_equals_separate(made: list[tuple[str, Layout]], before: int, after: int) -> None:
    family = made[0][0]
    layouts = [layout for key, layout in made if key == family]
    rule = _rule(family)
    total = sum(layout.num_tokens for layout in layouts)
    packed = place_layouts(
        [layouts],
        rule.rope,
        tokens_per_second=rule.tokens_per_second,
        width=before + total + after,
        first_columns=[before],
    ).model_position_ids[:, 0]
    start = before
    for layout in layouts:
        stop = start + layout.num_tokens
        np.testing.assert_array_equal(packed[1:, start:stop], _place(family, layout).position_ids)
        np.testing.assert_array_equal(packed[0, start:stop], np.arange(layout.num_tokens))
        start = stop
    assert not packed[:, :before].any()
    assert not packed[:, start:].any()


@settings(max_examples=100, deadline=None)
@given(_layouts(), st.integers(0, 40))
def test_every_moved_position_is_refused(made: tuple[str, Layout], where: int) -> None:
    """The guard takes the engine's positions and nothing that differs by one."""
    family, layout = made
    kinds = {"text": TEXT, "image": IMAGE, "video": VIDEO}
    ids = [kinds[span.kind] for span in layout.spans for _ in range(span.num_tokens)]
    grids: dict[str, list] = {"image": [], "video": []}
    seconds = []
    for _, span in layout.vision_spans:
        t, h, w = span.merged_grid_thw or (0, 0, 0)
        grids[span.kind].append((t, 2 * h, 2 * w))
        if span.kind == "video":
            seconds.append(span.seconds_per_grid)
    placed = torch.from_numpy(_place(family, layout).position_ids)[:, None].clone()
    check = {
        "image_grid_thw": torch.tensor(grids["image"]) if grids["image"] else None,
        "video_grid_thw": torch.tensor(grids["video"]) if grids["video"] else None,
        "second_per_grid_ts": seconds if family == "qwen2_5_vl" and seconds else None,
    }
    refuse_misplaced(torch.tensor([ids]), placed, _rule(family), **check)
    placed[where % 3, 0, where % len(ids)] += 1
    with pytest.raises(LayoutError, match="row 0: token"):
        refuse_misplaced(torch.tensor([ids]), placed, _rule(family), **check)
