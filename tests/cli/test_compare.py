"""`sightline compare`: the command."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def runs(tmp_path: Path, run_maker: ModuleType) -> tuple[Path, Path]:
    """A proven run, and one of another family and length of which a check fails."""
    return run_maker.make_two(tmp_path)


def test_runs_are_told_side_by_side(runs: tuple[Path, Path], command: Any) -> None:
    outcome = command("compare", *runs)
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert [line.split() for line in lines[:2]] == [["A", "first"], ["B", "second"]]
    assert max(map(len, lines)) <= 80
    words = " ".join(outcome.out.split())
    assert "certificate holds FAILS" in words
    assert "final 6.4e-4, step 50 6.4e-4, step 20" in words
    assert "family Qwen2.5-VL Qwen3-VL" in words


def test_the_record_is_printed_as_json(
    runs: tuple[Path, Path], command: Any, tmp_path: Path
) -> None:
    outcome = command("compare", *runs, "--json", "--output", tmp_path / "page.html")
    record = json.loads(outcome.out)
    assert [run["name"] for run in record["runs"]] == ["first", "second"]
    assert record["runs"][1]["failing"] == ["logits.cache_equals_whole"]
    assert (tmp_path / "page.html").is_file()
    assert "page.html" in outcome.err


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["first"], "1 run directory was named"),
        (["first", "first"], "the same run directory as"),
        (["first", "second", "first/../second"], "the same run directory as"),
        (["first", "pictures"], "pictures: this is not a run directory"),
        (["first", "nowhere"], "nowhere: this is not a run directory"),
    ],
)
def test_what_cannot_be_compared_is_one_message(
    runs: tuple[Path, Path], command: Any, names: list[str], message: str
) -> None:
    folder = runs[0].parent
    page = folder / "page.html"
    outcome = command("compare", *(folder / name for name in names), "--output", page)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("sightline: ")
    assert message in outcome.err
    assert not page.exists()


def test_a_page_that_is_no_html_file_is_refused(runs: tuple[Path, Path], command: Any) -> None:
    outcome = command("compare", *runs, "--output", runs[0] / "config.yaml")
    assert outcome.code == 2
    assert "ends with .html" in outcome.err


def test_a_broken_record_names_its_file(runs: tuple[Path, Path], command: Any) -> None:
    (runs[1] / "certificate.json").write_text("{", encoding="utf-8")
    outcome = command("compare", *runs)
    assert outcome.code == 2
    assert f"{runs[1] / 'certificate.json'}: the file is broken" in outcome.err
