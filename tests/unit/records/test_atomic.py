"""Files that are there whole or not at all, and what is said when they cannot be."""

from __future__ import annotations

import math
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sightline.errors import RunError
from sightline.records import (
    append_jsonl,
    atomic_directory,
    full_disk_explained,
    read_json,
    read_jsonl,
    write_bytes,
    write_json,
    write_text,
)

SMALL_DISK_BYTES = 256 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that is soon full."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_BYTES}", "tmpfs", str(mount)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine does not let root mount a tmpfs")
    yield mount
    subprocess.run(["umount", "--lazy", str(mount)], check=True)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _build(
    path: Path,
    files: dict[str, bytes],
    *,
    replace: bool = False,
    fault: BaseException | None = None,
) -> None:
    """Build a folder of some files, and fail behind them where a fault is planted."""
    with atomic_directory(path, replace=replace) as building:
        for name, content in files.items():
            (building / name).write_bytes(content)
        if fault is not None:
            raise fault


# Files.


def test_a_file_is_written_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "note.txt"
    write_text(path, "grün 绿\n")
    assert path.read_bytes() == "grün 绿\n".encode()
    assert _names(path.parent) == ["note.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"a long first version")
    write_bytes(path, b"short")
    assert path.read_bytes() == b"short"
    assert _names(tmp_path) == ["file"]


def test_a_failure_to_rename_leaves_the_old_state_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "taken"
    path.mkdir()
    (path / "kept").write_text("old")
    with pytest.raises(RunError) as refused:
        write_text(path, "new")
    assert str(refused.value) == f"{path}: cannot be written: Is a directory."
    assert _names(tmp_path) == ["taken"]
    assert (path / "kept").read_text() == "old"


def test_a_failure_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")
    with pytest.raises(TypeError):
        write_bytes(path, "text, which a binary file refuses")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert _names(tmp_path) == ["file"]


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "inner"
    with pytest.raises(RunError) as refused:
        write_text(path, "new")
    assert str(refused.value).startswith(f"{path}: cannot be written: ")


# No space.


def test_a_full_disk_is_one_message_and_leaves_the_old_file(small_disk: Path) -> None:
    path = small_disk / "file"
    write_bytes(path, b"old")
    with pytest.raises(RunError) as refused:
        write_bytes(path, bytes(2 * SMALL_DISK_BYTES))
    assert str(refused.value) == (
        f"{path}: no space left on the device (0.5 MiB needed, 0.2 MiB free).\n"
        "Free some space, or choose another output, and start again."
    )
    assert path.read_bytes() == b"old"
    assert _names(small_disk) == ["file"]


def test_a_full_disk_leaves_no_folder_half_built(small_disk: Path) -> None:
    with pytest.raises(RunError, match="no space left"):
        _build(small_disk / "m", {"first": b"fits", "second": bytes(2 * SMALL_DISK_BYTES)})
    assert _names(small_disk) == []


def test_a_line_that_does_not_fit_is_one_message(small_disk: Path) -> None:
    path = small_disk / "metrics.jsonl"
    append_jsonl(path, {"step": 1})
    with pytest.raises(RunError, match="no space left"):
        append_jsonl(path, {"text": "x" * 2 * SMALL_DISK_BYTES})
    assert read_jsonl(path) == [{"step": 1}]


def test_a_full_disk_is_recognised_in_the_words_of_others(small_disk: Path) -> None:
    import torch
    from safetensors.torch import save_file

    path = small_disk / "weights.safetensors"
    with pytest.raises(RunError, match="no space left"), full_disk_explained(path):
        save_file({"a": torch.zeros(SMALL_DISK_BYTES)}, str(path))


def test_other_faults_pass_through_unchanged(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^not about space$"), full_disk_explained(tmp_path):
        raise ValueError("not about space")
    with pytest.raises(FileNotFoundError), full_disk_explained(tmp_path):
        (tmp_path / "none").read_text()


# Folders.


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "merged"
    with atomic_directory(path) as building:
        assert building.parent == path.parent
        (building / "weights").write_text("w")
        assert not path.exists()
    assert _names(path.parent) == ["merged"]
    assert (path / "weights").read_text() == "w"
    assert path.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("fault", [ValueError("planted"), KeyboardInterrupt()])
def test_a_failure_while_building_leaves_nothing(tmp_path: Path, fault: BaseException) -> None:
    path = tmp_path / "merged"
    with pytest.raises(type(fault)):
        _build(path, {"weights": b"half"}, fault=fault)
    assert _names(tmp_path) == []


def test_a_failure_while_replacing_leaves_the_old_folder(tmp_path: Path) -> None:
    path = tmp_path / "merged"
    _build(path, {"old": b"old"})
    with pytest.raises(ValueError, match="planted"):
        _build(path, {"new": b"half"}, replace=True, fault=ValueError("planted"))
    assert _names(tmp_path) == ["merged"]
    assert _names(path) == ["old"]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "merged"
    for name in ("first", "second"):
        with atomic_directory(path, replace=True) as building:
            (building / name).write_text(name)
    assert _names(tmp_path) == ["merged"]
    assert _names(path) == ["second"]


def test_a_folder_that_is_there_is_not_replaced_unasked(tmp_path: Path) -> None:
    path = tmp_path / "merged"
    path.mkdir()
    with pytest.raises(RunError) as refused, atomic_directory(path):
        raise AssertionError("nothing may be built")
    assert str(refused.value) == f"{path}: the folder is there already. Choose another."
    assert _names(tmp_path) == ["merged"]


# JSON.


def test_json_is_readable_by_people(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"name": "红", "values": [1, 2.5, None, True]})
    assert path.read_text(encoding="utf-8") == (
        '{\n  "name": "红",\n  "values": [\n    1,\n    2.5,\n    null,\n    true\n  ]\n}\n'
    )
    assert read_json(path) == {"name": "红", "values": [1, 2.5, None, True]}


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("value", "place"),
    [
        (lambda x: x, "the value"),
        (lambda x: {"loss": x}, "loss"),
        (lambda x: {"a": [0.5, {"b": (1, x)}]}, "a[1].b[1]"),
        (lambda x: [[], [1.0, x]], "[1][1]"),
    ],
)
def test_a_number_that_is_not_finite_is_refused_with_its_place(
    tmp_path: Path, number: float, value, place: str
) -> None:
    path = tmp_path / "a.json"
    message = f"{path}: {place} is not a finite number, which JSON cannot hold."
    for write in (write_json, append_jsonl):
        with pytest.raises(RunError) as refused:
            write(path, value(number))
        assert str(refused.value) == message
    assert not path.exists()


def test_a_missing_and_a_broken_file_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(RunError) as refused:
        read_json(path)
    assert str(refused.value) == f"{path}: the file is missing."
    path.write_text('{"a": 1,\n "b": }')
    with pytest.raises(RunError) as refused:
        read_json(path)
    assert str(refused.value) == (
        f"{path}: the file is broken: Expecting value: line 2 column 7 (char 15)."
    )
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(RunError, match="the file is broken: 'utf-8' codec"):
        read_json(path)
    with pytest.raises(RunError) as refused:
        read_json(tmp_path)
    assert str(refused.value) == f"{tmp_path}: the file cannot be read: Is a directory."


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_reading_is_as_strict_as_writing(tmp_path: Path, constant: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(f'{{"loss": {constant}}}')
    with pytest.raises(RunError, match="the file is broken"):
        read_json(path)


def test_half_a_character_is_refused_with_its_place(tmp_path: Path) -> None:
    """A file name that is not UTF-8, as Python hands it over."""
    path = tmp_path / "a.json"
    for write in (write_json, append_jsonl):
        with pytest.raises(RunError, match=r"a\.json: rows\[0\]\.file is "):
            write(path, {"rows": [{"file": "a\udcff.png"}]})
    with pytest.raises(RunError, match="half a character"):
        write_text(path, "a\udcff")
    assert not path.exists()


# JSON lines.


def test_lines_are_added_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    append_jsonl(path, {"step": 1, "名": "é"})
    append_jsonl(path, {"step": 2})
    assert path.read_text(encoding="utf-8") == '{"step": 1, "名": "é"}\n{"step": 2}\n'
    assert read_jsonl(path) == [{"step": 1, "名": "é"}, {"step": 2}]


def test_lines_that_are_not_there_are_none(tmp_path: Path) -> None:
    assert read_jsonl(tmp_path / "none.jsonl") == []
    (tmp_path / "empty.jsonl").write_text("")
    assert read_jsonl(tmp_path / "empty.jsonl") == []


@pytest.mark.parametrize(
    "cut", [b'{"step": 2, "lo', b"{", b'{"name": "\xe7\xba', b'{"step": 2, "loss": 1}'[:-1]]
)
def test_a_last_line_that_was_cut_is_left_out(tmp_path: Path, cut: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"step": 1}\n' + cut)
    assert read_jsonl(path) == [{"step": 1}]


def test_a_last_line_without_its_end_is_kept_and_ended(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"step": 1}')
    assert read_jsonl(path) == [{"step": 1}]
    append_jsonl(path, {"step": 2})
    assert path.read_bytes() == b'{"step": 1}\n{"step": 2}\n'


def test_a_broken_line_in_the_middle_is_refused_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"step": 1}\n{"step": \n{"step": 3}\n')
    with pytest.raises(RunError) as refused:
        read_jsonl(path)
    assert str(refused.value).startswith(f"{path}:2: the line is broken: ")


def test_a_resumed_run_goes_on_behind_a_line_that_was_cut(tmp_path: Path) -> None:
    """A full disk cuts a line; the run is resumed, and its curve must still be readable."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2, "lo')
    append_jsonl(path, {"step": 2, "loss": 0.5})
    append_jsonl(path, {"step": 3})
    assert read_jsonl(path) == [{"step": 1}, {"step": 2, "loss": 0.5}, {"step": 3}]


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85", "\x1c", "\x0b", "\r"])
def test_only_a_line_feed_ends_a_line(tmp_path: Path, sign: str) -> None:
    """JSON keeps these signs inside a text, and Python's splitlines takes them for line ends."""
    path = tmp_path / "a.jsonl"
    rows = [{"file": f"a{sign}b.json"}, {"file": "c.json"}]
    for row in rows:
        append_jsonl(path, row)
    assert read_jsonl(path) == rows
