"""Positions in the terminal and as a picture."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from sightline.cli.inspect import _of_layout, read_layout
from sightline.errors import ConfigError
from sightline.positions import Image, Text, Video
from sightline.report.positions import positions_text
from sightline.report.positions_plot import plot_positions


def test_a_few_tokens_are_numbers() -> None:
    lines = positions_text(_of_layout("qwen2_vl", "3 image:1x4x6 2")).splitlines()
    assert lines[1] == "11 tokens, 6 of them vision"
    assert lines[2] == "largest position 7, where a 1-D model would be at 10; rope_delta -3"
    assert lines[4:8] == [
        "time     0  1  2  3  3  3  3  3  3  6  7",
        "height   0  1  2  3  3  3  4  4  4  6  7",
        "width    0  1  2  3  4  5  3  4  5  6  7",
        "1-D      0  1  2  3  4  5  6  7  8  9 10",
    ]
    assert lines[-1].split() == ["text", "9-10", "6-7", "6-7", "6-7"]


def test_many_tokens_are_a_drawing() -> None:
    text = positions_text(_of_layout("qwen2_5_vl", "40 image:1x16x24 60 video:30x16x24@1.0 120"))
    lines = text.splitlines()
    assert max(len(line) for line in lines) <= 80
    assert "3196 tokens, 2976 of them vision" in text
    table = lines[lines.index(next(line for line in lines if line.startswith("span"))) :]
    # Text after the video goes on behind its last second, 170.
    assert table[4].split()[-4:] == ["196-3075", "112-170", "112-119", "112-123"]
    assert table[5].split() == ["text", "3076-3195", "171-290", "171-290", "171-290"]
    one_dimensional = next(index for index, line in enumerate(lines) if line.startswith("1-D"))
    assert "^^^^" in lines[one_dimensional - 2]
    assert "^" not in "".join(
        line for line in lines if line.startswith(("time", "height", "width"))
    )


def test_text_alone_is_the_same_on_every_axis() -> None:
    lines = positions_text(_of_layout("qwen3_vl", "100")).splitlines()
    rows = {line[:7].strip(): line[7:] for line in lines if line.startswith(("time", "1-D"))}
    assert rows["time"] == rows["1-D"]
    assert not any("^" in line for line in lines)


def test_many_spans_are_folded() -> None:
    text = positions_text(_of_layout("qwen3_vl", "6 video:200x8x12+9 8"))
    assert "... 389 more spans ..." in text
    assert len(text.splitlines()) < 40
    assert max(map(len, text.splitlines())) <= 80


def test_other_widths_fit() -> None:
    drawn = _of_layout("qwen2_vl", "400 image:1x40x60 400")
    for width in (60, 100):
        assert max(map(len, positions_text(drawn, width).splitlines())) <= width


@pytest.mark.parametrize(
    ("family", "layout", "height"),
    [
        ("qwen2_5_vl", "9 image:1x8x8 9 video:20x8x8@1.0 9", 1050),
        ("qwen3_vl", "6 video:200x8x12+9 8", 1050),
        ("qwen2_vl", "8", 630),
        ("qwen2_5_vl", "9 video:256x40x40@1.0 9", 1050),
    ],
)
def test_the_picture_is_a_png(tmp_path: Path, family: str, layout: str, height: int) -> None:
    target = tmp_path / "positions.png"
    plot_positions(_of_layout(family, layout), target)
    content = target.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", content[16:24]) == (1400, height)
    assert len(content) > 10_000


def test_a_typed_layout() -> None:
    assert read_layout("8 image:1x4x6 video:3x4x6@0.5 video:2x4x4+7") == [
        Text(8), Image((1, 4, 6)), Video((3, 4, 6), 0.5), Video((2, 4, 4), None, 7),
    ]  # fmt: skip


@pytest.mark.parametrize("word", ["x", "image:4x6", "image:1x4x6@2", "video:3x4x6@", "-1"])
def test_a_word_that_is_no_layout(word: str) -> None:
    with pytest.raises(ConfigError, match=f"--layout: '{word}' is none of"):
        read_layout(f"8 {word}")
