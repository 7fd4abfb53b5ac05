"""A preview of real photographs and videos; skipped where ../shared is not beside the checkout."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize(
    ("config", "num_pictures", "num_frames", "words"),
    [
        ("llamafactory_demo", 8, 16, ("他们是拜仁慕尼黑的", "Bayern", "video 1")),
        ("qwen_demo", 3, 0, ("Favorable",)),
    ],
)
def test_photographs_and_videos_are_shown(
    command,
    shared: Path,
    tmp_path: Path,
    family: str,
    config: str,
    num_pictures: int,
    num_frames: int,
    words: tuple[str, ...],
) -> None:
    path = Path(__file__).parent / f"{config}.yaml"
    settings = (f"model=tiny:{family}", f"output={tmp_path / 'run'}")
    page = tmp_path / "p.html"
    options = [item for setting in settings for item in ("--set", setting)]
    done = command("preview", path, "--out", page, *options)
    assert done.code == 0, done.err
    assert "warning" not in done.out
    html = page.read_text(encoding="utf-8")
    assert html.count('class="medium"') == num_pictures
    assert html.count("<image ") == num_pictures + num_frames
    assert "cannot be decoded" not in html
    text = "".join(part.partition(">")[2] for part in html.split("<"))
    for word in words:
        assert word in text
    assert len(html) < 4_000_000
