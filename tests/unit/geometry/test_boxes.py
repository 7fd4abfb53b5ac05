"""Boxes there and back."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from sightline.geometry import BoxFrame, from_file_pixels, to_file_pixels, turned_upright


def _frame(space: str) -> BoxFrame:
    return BoxFrame(
        space=space, file_height=1080, file_width=1920, resized_height=728, resized_width=1316
    )


def test_each_axis_has_its_own_factor() -> None:
    assert from_file_pixels((0, 0, 1920, 1080), _frame("resized_pixels")) == (0, 0, 1316, 728)
    placed = from_file_pixels((960, 270, 1920, 540), _frame("thousandths"))
    assert placed == pytest.approx((500, 250, 1000, 500))


def test_there_and_back() -> None:
    for space in ("resized_pixels", "thousandths"):
        box = (12.0, 34.0, 560.0, 780.0)
        back = to_file_pixels(from_file_pixels(box, _frame(space)), _frame(space))
        assert all(abs(a - b) < 1e-9 for a, b in zip(box, back, strict=True))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_point_turns_as_pillow_turns_its_pixel(orientation: int) -> None:
    width, height, x, y = 7, 5, 5, 1
    stored = np.zeros((height, width), dtype=np.uint8)
    stored[y, x] = 255
    image = Image.fromarray(stored)
    image.getexif()[0x0112] = orientation
    shown = np.asarray(ImageOps.exif_transpose(image))
    [(down, across)] = np.argwhere(shown == 255)
    # The middle of the pixel.
    turned = turned_upright((x + 0.5) / width, (y + 0.5) / height, orientation)
    assert turned == pytest.approx(((across + 0.5) / shown.shape[1], (down + 0.5) / shown.shape[0]))
