"""The page over several runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sightline.report.demo import render_demo
from sightline.report.page import render_run

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


@pytest.fixture
def runs(tmp_path: Path, maker: Any) -> list[Path]:
    """Three runs with their reports."""
    paths = [maker.make_run(tmp_path / "demo" / key, family=key) for key in FAMILIES]
    for path in paths:
        render_run(path)
    return paths


def test_three_families_at_a_glance(runs: list[Path], tmp_path: Path, read_page: Any) -> None:
    path = render_demo(runs, tmp_path / "demo" / "report.html")
    html = path.read_text(encoding="utf-8")
    page = read_page(html)
    assert page.faults == []
    assert len(page.ids) == len(set(page.ids))
    assert "http://" not in html
    assert "https://" not in html
    assert "Trained, exported, loaded afresh: every answer is exact" in page.text
    for title in ("Qwen2-VL", "Qwen2.5-VL", "Qwen3-VL"):
        assert f"{title} 6.4e-4 4 of 4 2 of 4 ✓ holds open {title}" in page.text
    assert "1-D positions (the order of the tokens) instead of 3-D positions" in page.text


def test_links_are_relative(runs: list[Path], tmp_path: Path, read_page: Any) -> None:
    path = render_demo(runs, tmp_path / "demo" / "report.html")
    links = [
        address
        for address in read_page(path.read_text(encoding="utf-8")).addresses
        if not address.startswith(("#", "data:image/"))
    ]
    assert links == [f"{key}/report.html" for key in FAMILIES]


def test_a_picture_stands_once_in_the_page(
    runs: list[Path], tmp_path: Path, read_page: Any
) -> None:
    path = render_demo(runs, tmp_path / "demo" / "report.html")
    addresses = read_page(path.read_text(encoding="utf-8")).addresses
    assert sum(address.startswith("data:image/") for address in addresses) == 12


def test_a_family_that_does_not_hold_is_named(
    runs: list[Path], tmp_path: Path, maker: Any, read_page: Any
) -> None:
    certificate = maker.certificate_record(fails=True)
    maker.rewrite(runs[1] / "certificate.json", **certificate)
    (runs[2] / "predictions.json").unlink()
    page = read_page(
        render_demo(runs, tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
    )
    assert page.faults == []
    assert "Not shown for Qwen2.5-VL, Qwen3-VL" in page.text
    assert "every answer is exact" not in page.text


def test_a_control_that_does_not_fail_proves_nothing(
    runs: list[Path], tmp_path: Path, maker: Any, read_page: Any
) -> None:
    predictions = maker.predictions_record(runs[0])
    predictions["control"]["num_equal"] = 4
    maker.rewrite(runs[0] / "predictions.json", **predictions)
    page = read_page(
        render_demo(runs, tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
    )
    assert "Not shown for Qwen2-VL" in page.text
