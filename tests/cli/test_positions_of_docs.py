"""The worked examples of docs/positions.md, and its commands, give what the page says."""

from __future__ import annotations

import doctest
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "positions.md"


def test_the_examples_of_the_page() -> None:
    fences = PAGE.read_text(encoding="utf-8").replace("```", "")
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner()
    found = parser.get_doctest(fences, {}, PAGE.name, str(PAGE), 0)
    assert len(found.examples) >= 20
    failed = []
    runner.run(found, out=failed.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(failed)


def test_the_command_that_draws(command, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    layout = "8 image:1x16x24 20 video:30x16x24@1.0 12"
    done = command(
        "inspect", "positions", "--family", "qwen2_5_vl", "--layout", layout,
        "--output", "positions.png",
    )  # fmt: skip
    assert done.code == 0
    assert (tmp_path / "positions.png").read_bytes().startswith(b"\x89PNG")
