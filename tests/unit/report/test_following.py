"""A file of lines that another process writes: read once, also where it is torn or replaced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import RunError
from sightline.records import append_jsonl, write_text
from sightline.report.following import LineFollower


def _steps(growth: Any) -> list[int]:
    return [row["step"] for row in growth.rows]


def _line(step: int) -> str:
    return json.dumps({"step": step, "loss": 1.5}) + "\n"


def test_lines_come_once_as_they_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    follower = LineFollower(path)
    assert _steps(follower.look()) == []
    append_jsonl(path, {"step": 1})
    append_jsonl(path, {"step": 2})
    assert _steps(follower.look()) == [1, 2]
    assert _steps(follower.look()) == []
    append_jsonl(path, {"step": 3})
    growth = follower.look()
    assert _steps(growth) == [3]
    assert not growth.is_anew


def test_only_what_was_appended_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(_line(step) for step in range(20_000)), encoding="utf-8")
    follower = LineFollower(path)
    assert len(follower.look().rows) == 20_000
    append_jsonl(path, {"step": 20_000})
    num_read = 0
    opened = Path.open

    def counted(self: Path, *arguments: Any) -> Any:
        file = opened(self, *arguments)
        read = file.read

        class Counted:
            def __enter__(self) -> Counted:
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

            def read(self, size: int) -> bytes:
                nonlocal num_read
                content = read(size)
                num_read += len(content)
                return content

            seek = staticmethod(file.seek)
            tell = staticmethod(file.tell)
            fileno = staticmethod(file.fileno)

        return Counted()

    monkeypatch.setattr(Path, "open", counted)
    assert _steps(follower.look()) == [20_000]
    assert num_read < 1000


def test_a_line_without_its_end_waits_for_it(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    follower = LineFollower(path)
    whole = _line(2)
    path.write_text(_line(1) + whole[:9], encoding="utf-8")
    assert _steps(follower.look()) == [1]
    with path.open("a", encoding="utf-8") as file:
        file.write(whole[9:-1])
    assert _steps(follower.look()) == []
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" + _line(3))
    growth = follower.look()
    assert _steps(growth) == [2, 3]
    assert growth.faults == ()


def test_a_torn_line_that_is_taken_away_is_never_seen(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    follower = LineFollower(path)
    path.write_text(_line(1) + '{"step": 2, "lo', encoding="utf-8")
    assert _steps(follower.look()) == [1]
    append_jsonl(path, {"step": 2})
    growth = follower.look()
    assert (_steps(growth), growth.is_anew, growth.faults) == ([2], False, ())


def test_a_file_that_is_cut_back_and_goes_on_is_read_anew(tmp_path: Path) -> None:
    """As a resumed run does it, in whose place the file is as long as before soon."""
    path = tmp_path / "metrics.jsonl"
    follower = LineFollower(path)
    path.write_text("".join(map(_line, range(1, 9))), encoding="utf-8")
    follower.look()
    write_text(path, "".join(map(_line, range(1, 5))))
    for step in range(5, 12):
        append_jsonl(path, {"step": step, "loss": 9.5})
    growth = follower.look()
    assert growth.is_anew
    assert _steps(growth) == list(range(1, 12))


def test_a_file_that_is_overwritten_in_its_place_is_read_anew(tmp_path: Path) -> None:
    """The same file for the system, and longer: only its content tells."""
    path = tmp_path / "metrics.jsonl"
    follower = LineFollower(path)
    path.write_text("".join(map(_line, range(1, 4))), encoding="utf-8")
    follower.look()
    number = path.stat().st_ino
    with path.open("r+", encoding="utf-8") as file:
        file.write("".join(_line(step) for step in range(5, 12)))
    assert path.stat().st_ino == number
    growth = follower.look()
    assert growth.is_anew
    assert _steps(growth) == list(range(5, 12))


def test_a_new_file_that_ends_as_the_old_one_did_is_read_anew(tmp_path: Path) -> None:
    """Only its number in the file system tells."""
    path = tmp_path / "metrics.jsonl"
    follower = LineFollower(path)
    end = json.dumps({"step": 2, "note": "x" * 500}) + "\n"
    write_text(path, _line(1) + end)
    follower.look()
    write_text(path, _line(7) + end)
    growth = follower.look()
    assert growth.is_anew
    assert _steps(growth) == [7, 2]


def test_a_file_that_is_taken_away_is_said_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    follower = LineFollower(path)
    append_jsonl(path, {"step": 1})
    follower.look()
    path.unlink()
    assert follower.look().is_anew
    assert not follower.look().is_anew
    append_jsonl(path, {"step": 7})
    assert _steps(follower.look()) == [7]


def test_a_long_file_comes_in_parts_and_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightline.report.following._MOST_BYTES", 1000)
    monkeypatch.setattr("sightline.report.following._CHUNK", 300)
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step, "note": "x" * (step % 7) * 400}) for step in range(50)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    follower, growths = LineFollower(path), []
    while not growths or growths[-1].has_more:
        growths.append(follower.look())
    assert len(growths) > 10
    assert [step for growth in growths for step in _steps(growth)] == list(range(50))
    assert not any(growth.is_anew or growth.faults for growth in growths)


@pytest.mark.parametrize("broken", ["{step: 2}", "[1]", '{"loss": 1}', '{"step": "2"}', "\xff"])
def test_a_broken_line_is_named_and_the_next_is_read(tmp_path: Path, broken: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(_line(1).encode() + broken.encode("latin-1") + b"\n" + _line(3).encode())
    growth = LineFollower(path).look()
    assert _steps(growth) == [1, 3]
    [fault] = growth.faults
    assert fault.startswith("metrics.jsonl:2: the line is broken: ")


def test_a_folder_in_its_place_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(RunError, match="cannot be read"):
        LineFollower(tmp_path / "metrics.jsonl").look()


def test_separators_of_unicode_end_no_line(tmp_path: Path) -> None:
    path = tmp_path / "alarms.jsonl"
    append_jsonl(path, {"step": 1, "seen": "one\u2028two\x85three"})
    [row] = LineFollower(path).look().rows
    assert row["seen"] == "one\u2028two\x85three"
