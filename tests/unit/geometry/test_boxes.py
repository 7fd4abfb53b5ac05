"""Boxes there and back."""

from __future__ import annotations

import pytest

from sightline.geometry import BoxFrame, from_file_pixels, to_file_pixels


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
