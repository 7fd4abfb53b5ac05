"""Lists of samples in a .json file: places are exact wherever the window of the file ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sightline.data.rows import RawRow, jsonlist
from sightline.data.rows.jsonlist import JsonList

quick = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
letters = st.sampled_from('aé中😀\u2028"\\\n\t{}[],: ') | st.characters(exclude_categories=["Cs"])
texts = st.text(letters, max_size=12)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
spaces = st.text(st.sampled_from(" \n\t\r"), max_size=4)
windows = st.integers(1, 40)


def read_all(path: Path) -> list[RawRow]:
    rows = JsonList(path)
    return [raw for chunk in rows.chunks() for raw in rows.read(chunk)]


def placed(raw: RawRow) -> tuple[object, int | None, int, int, int]:
    return raw.value, raw.origin.line, raw.origin.index, raw.offset, raw.num_bytes


def small(
    monkeypatch: pytest.MonkeyPatch, window: int, chunk: int, unsure: int | None = None
) -> None:
    monkeypatch.setattr(jsonlist, "_WINDOW_NUM_BYTES", window)
    monkeypatch.setattr(jsonlist, "CHUNK_NUM_BYTES", chunk)
    if unsure is not None:
        monkeypatch.setattr(jsonlist, "_NUM_CHARS_UNSURE", unsure)


@quick
@given(
    rows=st.lists(st.tuples(spaces, values, spaces, st.booleans()), min_size=1, max_size=6),
    before=spaces,
    window=windows,
    chunk=st.integers(1, 60),
    mark=st.booleans(),
)
def test_rows_lines_and_bytes_are_exact_at_every_window(
    tmp_path: Path, rows: list, before: str, window: int, chunk: int, mark: bool
) -> None:
    written = b"\xef\xbb\xbf" if mark else b""
    written += before.encode() + b"["
    expected = []
    for index, (left, value, right, escaped) in enumerate(rows):
        written += (b"," if index else b"") + left.encode()
        text = json.dumps(value, ensure_ascii=escaped, indent=1 if escaped else None).encode()
        expected.append((value, written.count(b"\n") + 1, index, len(written), len(text)))
        written += text + right.encode()
    path = tmp_path / "a.json"
    path.write_bytes(written + b"]\n")
    with pytest.MonkeyPatch.context() as patch:
        small(patch, window, chunk, unsure=8)
        found = read_all(path)
        assert [raw.fault for raw in found] == [None] * len(rows)
        assert [placed(raw) for raw in found] == expected
        again = [JsonList(path).row(raw.origin, raw.offset, raw.num_bytes) for raw in found]
        assert [placed(raw) for raw in again] == expected


@quick
@given(rows=st.lists(st.dictionaries(texts, texts, max_size=3), max_size=4), window=windows)
def test_a_broken_element_keeps_the_rows_before_it(
    tmp_path: Path, rows: list[dict], window: int
) -> None:
    before = "[" + "".join(f"{json.dumps(row, ensure_ascii=False)},\n" for row in rows)
    broken = '{"text": "é", oops},\n{"text": "whole"}]'
    path = tmp_path / "a.json"
    path.write_text(before + broken, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        small(patch, window, 1 << 20, unsure=8)
        *kept, last = read_all(path)
    assert [raw.value for raw in kept] == rows
    assert [raw.fault for raw in kept] == [None] * len(rows)
    line = len(rows) + 1
    column = 15 + (1 if line == 1 else 0)
    assert str(last.fault).startswith(
        f"{path}:{line}: broken JSON in column {column}: expecting property name enclosed in "
        "double quotes, near "
    )
    size = len(broken.encode())
    assert f" The rest of the file, {size} bytes from line {line}, is not read." in str(last.fault)
    assert (last.value, last.origin.index, last.origin.line) == (None, len(rows), line)
    assert (last.offset, last.num_bytes) == (len(before.encode()), size)


@quick
@given(content=st.binary(max_size=60), window=windows)
def test_bytes_of_any_kind_are_told_alike_at_every_window(
    tmp_path: Path, content: bytes, window: int
) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'[{"a": "' + content + b'"}, 1]')

    def told() -> list[tuple]:
        return [(*placed(raw)[1:], repr(raw.value), raw.fault is None) for raw in read_all(path)]

    whole = told()
    with pytest.MonkeyPatch.context() as patch:
        small(patch, window, 1 << 20, unsure=8)
        assert told() == whole


@pytest.mark.parametrize("text", ["1.5", "1e-5", "1E+10", "-0.25", "12345678901234567890.5"])
@pytest.mark.parametrize("window", range(1, 12))
def test_a_number_is_not_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, window: int
) -> None:
    path = tmp_path / "a.json"
    path.write_text(f"[{text},{text}\n]")
    small(monkeypatch, window, 100)
    assert [raw.value for raw in read_all(path)] == [float(text), float(text)]


@pytest.mark.parametrize("escape", ["\\ud83d\\ude00", "\\u00e9", "\\n", "\\\\", '\\"'])
def test_escapes_are_not_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, escape: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(f'[{{"a": "{escape}{escape}"}}]')
    expected = json.loads(f'"{escape}{escape}"')
    for window in range(1, 30):
        small(monkeypatch, window, 100)
        assert [raw.value for raw in read_all(path)] == [{"a": expected}]


def test_rows_larger_than_the_window(tmp_path: Path) -> None:
    rows = [{"text": letter * 500_000 + "\n"} for letter in ("a", "é", "中")] + [{"text": "b"}]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path = tmp_path / "a.json"
    path.write_text("[\n" + ",\n".join(lines) + "\n]", encoding="utf-8")
    found = read_all(path)
    assert [raw.value for raw in found] == rows
    assert [raw.origin.line for raw in found] == [2, 3, 4, 5]
    assert [raw.num_bytes for raw in found] == [500_014, 1_000_014, 1_500_014, 13]
    assert [raw.offset for raw in found] == [2, 500_018, 1_500_034, 3_000_050]
    third = JsonList(path).row(found[2].origin, found[2].offset, found[2].num_bytes)
    assert placed(third) == placed(found[2])


def test_chunks_cover_the_rows_and_change_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"a": 1},\n{"a": 2},\n{"a": 3}]')
    small(monkeypatch, 1000, 12)
    first, second = JsonList(path).chunks()
    assert [
        (c.offset, c.size, c.first_line, c.first_index, c.num_rows) for c in (first, second)
    ] == [
        (1, 18, 1, 0, 2),
        (21, 8, 3, 2, 1),
    ]
    path.write_text('[{"a": 1},\n{"a": 2},\n{"a": 4}]')
    again = [chunk.digest for chunk in JsonList(path).chunks()]
    assert again[0] == first.digest
    assert again[1] != second.digest


def test_a_row_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"a": 1}, {"a": 2}]')
    [_, second] = read_all(path)
    path.write_text("[]")
    raw = JsonList(path).row(second.origin, second.offset, second.num_bytes)
    assert raw.value is None
    assert raw.fault is not None


def test_a_column_behind_the_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"a": "xxxxxxxxxx"}, {"b": "yyyyyyyyyy"}, {"c" 1}]')
    messages = set()
    for window in range(1, 60):
        small(monkeypatch, window, 1000, unsure=8)
        messages.add(str(read_all(path)[-1].fault).split(", near")[0])
    assert messages == {f"{path}:1: broken JSON in column 49: expecting ':' delimiter"}
