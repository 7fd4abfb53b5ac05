"""Numbers as people read them."""

from __future__ import annotations

import pytest

from sightline.report import quantities


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (6.0, "6"),
        (0.01, "0.01"),
        (0.00999, "9.99e-3"),
        (1e-5, "1e-5"),
        (12345.0, "1.23e4"),
    ],
)
def test_number_text(value: float, text: str) -> None:
    assert quantities.number_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (1000, "1 K"), (7_615_616_512, "7.62 B")],
)
def test_short_count(value: int, text: str) -> None:
    assert quantities.short_count(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.04, "0.0 s"), (59.9, "59.9 s"), (59.97, "1 min 00 s"), (3599.7, "1 h 00 min")],
)
def test_duration_text(value: float, text: str) -> None:
    assert quantities.duration_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0 %"), (1.0, "100 %"), (0.00785, "0.78 %"), (0.5, "50 %"), (1e-6, "<0.01 %")],
)
def test_share_text(value: float, text: str) -> None:
    assert quantities.share_text(value) == text


def test_time_text() -> None:
    assert quantities.time_text("2026-01-01T11:58:00+00:00") == "2026-01-01 11:58 UTC"
    assert quantities.time_text("2026-01-01T11:58:00") == "2026-01-01 11:58"
