"""What JSON cannot hold, and what is read strictly."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightline.errors import RunError
from sightline.records import append_jsonl, read_json, read_jsonl, write_json, write_text


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_json_does_not_have_is_not_read(tmp_path: Path, constant: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(f'{{"loss": {constant}}}')
    with pytest.raises(RunError) as refused:
        read_json(path)
    assert str(refused.value) == (
        f"{path}: the file is broken: {constant} is no number that JSON can hold."
    )


def test_half_a_character_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for write in (write_json, append_jsonl):
        with pytest.raises(RunError) as refused:
            write(path, {"samples": [{"question": "a\ud800"}]})
        assert str(refused.value) == (
            f"{path}: samples[0].question is 'a\\ud800': it holds half a character, which UTF-8 "
            "cannot hold."
        )
    assert not path.exists()


def test_half_a_character_in_a_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="half a character"):
        write_text(tmp_path / "a.txt", "a\udcff")
    assert list(tmp_path.iterdir()) == []


def test_a_whole_last_line_without_its_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}')
    assert read_jsonl(path) == [{"step": 1}, {"step": 2}]
    append_jsonl(path, {"step": 3})
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n{"step": 3}\n'


def test_a_broken_last_line_that_was_ended_is_refused(tmp_path: Path) -> None:
    """It was written whole, so nothing cut it off: it is wrong."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"step": 1}\n{"step": \n')
    with pytest.raises(RunError) as refused:
        read_jsonl(path)
    assert str(refused.value).startswith(f"{path}:2: the line is broken: ")
