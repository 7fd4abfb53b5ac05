"""Lines of a process: to its log, and some of them to the terminal."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sightline.launching.output import RankOutput


def written(*chunks: bytes, shown: bool = False) -> RankOutput:
    read, write = os.pipe()
    output = RankOutput(os.fdopen(read, "rb"), is_shown=shown)
    for chunk in chunks:
        os.write(write, chunk)
    os.close(write)
    output.finish(5)
    return output


def test_what_was_said_before_there_was_a_log_is_in_it(tmp_path: Path) -> None:
    output = written(b"one\n", b"two\nhalf")
    assert output.log is None
    path = tmp_path / "logs" / "rank-1.log"
    output.log_to(path)
    output.log_to(tmp_path / "another")
    assert path.read_bytes() == b"one\ntwo\nhalf"
    assert output.log == path
    assert output.tail == ["one", "two", "half"]


def test_a_log_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "rank-1.log"
    path.write_text("of the start before\n")
    written(b"of this\n").log_to(path)
    assert path.read_text() == "of the start before\nof this\n"


def test_one_that_says_nothing_has_no_log(tmp_path: Path) -> None:
    output = written()
    output.log_to(tmp_path / "logs" / "rank-1.log")
    assert output.log is None
    assert not list(tmp_path.iterdir())


def test_lines_are_shown_when_they_are_old_enough(capsys: pytest.CaptureFixture[str]) -> None:
    output = written(b"a warning\n", shown=True)
    output.show(older_than=60.0)
    assert capsys.readouterr().err == ""
    output.show(older_than=0.0)
    output.show(older_than=0.0)
    assert capsys.readouterr().err == "a warning\n"


def test_notes_to_developers_of_torch_are_in_the_log_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    note = b"[rank0]:[W1122 02:13:52.686868014 reducer.cpp:1545] Warning: find_unused_parameters\n"
    output = written(note, b"a warning\n", shown=True)
    output.log_to(tmp_path / "log")
    output.show(older_than=0.0)
    assert capsys.readouterr().err == "a warning\n"
    assert (tmp_path / "log").read_bytes().startswith(note)


def test_others_are_never_shown(capsys: pytest.CaptureFixture[str]) -> None:
    output = written(b"a warning\n")
    output.show(older_than=0.0)
    assert capsys.readouterr().err == ""


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    output = written(b"\xff\xfe\n")
    output.log_to(tmp_path / "log")
    assert output.tail == ["\ufffd\ufffd"]
    assert (tmp_path / "log").read_bytes() == b"\xff\xfe\n"
