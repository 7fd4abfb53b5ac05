from __future__ import annotations

import numpy as np
import pytest

from sightline.data.shapes.figures import (
    draw_picture,
    gap_pixels,
    sample_labels,
    sample_picture,
)


def test_labels_of_a_picture_differ() -> None:
    labels = sample_labels(np.random.default_rng(0), 64)
    assert len(set(labels)) == 64


@pytest.mark.parametrize(("height", "width"), [(32, 32), (224, 224), (64, 640)])
@pytest.mark.parametrize("max_shapes", [1, 3, 30])
def test_figures_stay_inside_and_apart(height: int, width: int, max_shapes: int) -> None:
    gap = gap_pixels(height, width)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        picture = sample_picture(rng, height=height, width=width, max_shapes=max_shapes)
        assert 1 <= len(picture.figures) <= max_shapes
        covered = np.zeros((height, width), dtype=int)
        for x1, y1, x2, y2 in (figure.box for figure in picture.figures):
            assert gap <= x1 < x2 <= width - gap
            assert gap <= y1 < y2 <= height - gap
            covered[y1:y2, x1:x2] += 1
        assert covered.max() == 1


def test_figures_run_from_left_to_right() -> None:
    picture = sample_picture(np.random.default_rng(1), height=200, width=300, max_shapes=12)
    lefts = [figure.box[0] for figure in picture.figures]
    assert len(lefts) > 3
    assert lefts == sorted(lefts)


def test_all_counts_up_to_the_most_occur() -> None:
    counts = {
        len(sample_picture(np.random.default_rng(s), height=99, width=99, max_shapes=3).figures)
        for s in range(40)
    }
    assert counts == {1, 2, 3}


def test_a_drawn_picture_has_the_size() -> None:
    rng = np.random.default_rng(2)
    picture = sample_picture(rng, height=50, width=81, max_shapes=2)
    assert draw_picture(rng, picture).size == (81, 50)
