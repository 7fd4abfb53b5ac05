from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sightline.data.shapes.drawing import (
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    draw_background,
    draw_mask,
    mask_box,
    paint,
)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_fills_its_square(shape: str) -> None:
    left, top, right, bottom = mask_box(draw_mask(shape, 60))
    # A sharp tip covers less than half of its last pixels.
    assert left <= 1
    assert right >= 59
    assert top <= 2
    assert bottom >= 58


def test_square_covers_every_pixel() -> None:
    assert np.asarray(draw_mask("square", 12)).min() == 255


def test_ring_has_a_hole_and_a_circle_has_none() -> None:
    assert draw_mask("ring", 40).getpixel((20, 20)) == 0
    assert draw_mask("circle", 40).getpixel((20, 20)) == 255


def test_edges_are_smooth() -> None:
    assert len(set(np.asarray(draw_mask("circle", 40)).ravel().tolist())) > 20


def test_mask_box_counts_pixels_covered_by_half_or_more() -> None:
    mask = Image.new("L", (6, 4))
    mask.putpixel((1, 1), 127)
    mask.putpixel((2, 1), 128)
    mask.putpixel((4, 2), 255)
    assert mask_box(mask) == (2, 1, 5, 3)


def test_a_large_mask_stays_within_the_canvas_limit() -> None:
    assert draw_mask("triangle", 5000).size == (5000, 5000)


def test_background_is_pale_and_repeatable() -> None:
    first = np.asarray(draw_background(np.random.default_rng(7), 40, 70))
    second = np.asarray(draw_background(np.random.default_rng(7), 40, 70))
    assert first.shape == (40, 70, 3)
    assert np.array_equal(first, second)
    darkest = min(min(colour) for pair in BACKGROUNDS for colour in pair)
    assert first.min() >= darkest - 3


def test_paint_changes_the_covered_pixels_alone() -> None:
    picture = Image.new("RGB", (20, 10), (255, 255, 255))
    paint(picture, draw_mask("square", 6), "blue", 10, 2)
    changed = (np.asarray(picture) != 255).any(axis=2)
    assert np.flatnonzero(changed.any(axis=0)).tolist() == [10, 11, 12, 13, 14, 15]
    assert np.flatnonzero(changed.any(axis=1)).tolist() == [2, 3, 4, 5, 6, 7]


def test_colours_are_far_from_each_other_and_from_the_backgrounds() -> None:
    colours = [np.array(colour) for colour in COLOURS.values()]
    pale = [np.array(colour) for pair in BACKGROUNDS for colour in pair]
    for index, colour in enumerate(colours):
        for other in [*colours[index + 1 :], *pale]:
            assert np.abs(colour - other).max() >= 60
