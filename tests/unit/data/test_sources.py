"""Data files: lines and indices, and one clear message for each way that a file can be broken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from sightline.config import Columns, Source, Tags
from sightline.data.sources import open_source, read_source
from sightline.errors import DataError

ROW = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "A"}]}'
SHARED = Path(__file__).parents[4] / "shared/data"


def lines(path: Path) -> list[tuple[int, int]]:
    return [(conversation.origin.line, conversation.origin.index) for conversation in rows(path)]


def rows(path: Path) -> list:
    return list(read_source(Source(path=path)))


def refusal(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError) as caught:
        list(values(path))
    return str(caught.value)


def values(path: Path) -> Iterator[object]:
    """What stands in the rows of a file; the first fault is raised."""
    for reader in open_source(Source(path=path), folder=path.parent / "kept"):
        for chunk in reader.rows.chunks():
            for raw in reader.rows.read(chunk):
                if raw.fault is not None:
                    raise raw.fault
                yield raw.value


def test_jsonl_lines_blank_lines_and_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + f"{ROW}\n\n  \r\n{ROW}\r\n{ROW}".encode())
    assert lines(path) == [(1, 0), (4, 1), (5, 2)]


def test_jsonl_is_read_as_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f"{ROW}\nbroken\n")
    assert next(iter(read_source(Source(path=path)))).origin.line == 1


def test_a_line_separator_in_text_is_no_new_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(ROW.replace("Hi", "H\u2028i") + f"\n{ROW}\n", encoding="utf-8")
    assert lines(path) == [(1, 0), (2, 1)]


def test_json_knows_the_line_of_each_row(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    spread = ROW.replace(", ", ",\n   ").replace("[", "[\n")
    path.write_bytes(b"\xef\xbb\xbf" + f"\n[\n  {spread},{ROW}\n,\n\n{ROW}]\n".encode())
    assert lines(path) == [(3, 0), (7, 1), (10, 2)]


def test_shape_of_the_first_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f"{ROW}\n")
    for source, shape in (
        (Source(path=path), "openai"),
        (Source(path=path, columns=Columns(messages="messages")), "sharegpt"),
    ):
        [reader] = open_source(source, folder=tmp_path)
        [raw] = reader.rows.read(next(reader.rows.chunks()))
        assert reader.format_of(raw) == shape


def test_declared_names_and_media_root(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "media/a.png")
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"talk": [{"who": "Q", "says": "<image>?"}, {"who": "A", "says": "Yes"}],'
        ' "files": ["a.png"]}\n'
    )
    source = Source(
        path=path,
        media_root=tmp_path / "media",
        columns=Columns(messages="talk", images="files"),
        tags=Tags(role_tag="who", content_tag="says", user_tag="Q", assistant_tag="A"),
    )
    [conversation] = read_source(source)
    assert [image.path for image in conversation.images()] == [tmp_path / "media/a.png"]
    assert conversation.messages[0].text == "?"


def test_own_structural_tokens(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(ROW.replace("Hi", "[INST]") + "\n")
    with pytest.raises(
        DataError, match=r"a\.jsonl:1: messages\[0\]\.content: .* contains \[INST\]"
    ):
        list(read_source(Source(path=path), structural_tokens=("[INST]",)))


def test_missing_data_file(tmp_path: Path) -> None:
    path = tmp_path / "none.jsonl"
    with pytest.raises(DataError) as caught:
        list(values(path))
    assert str(caught.value) == (
        f"{path}: the data file cannot be read: No such file or directory.\n"
        "Check the path of the data file."
    )


def test_other_kind_of_file(tmp_path: Path) -> None:
    path = tmp_path / "a.pickle"
    assert refusal(path, "PAR1") == (
        f"{path}: the file ends in '.pickle'; .json and .jsonl are read, and tables.\n"
        "Known: .json, .jsonl, .parquet, .arrow, .csv, and folders of them."
    )


@pytest.mark.parametrize(
    ("name", "content"), [("a.json", ""), ("a.json", "[ ]\n"), ("a.jsonl", "\n\n")]
)
def test_empty_file(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    assert refusal(path, content) == f"{path}: the file holds no sample.\nCheck the path."


def test_broken_line_of_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    assert refusal(path, f'{ROW}\n{{"messages": [1, 2}}\n') == (
        f"{path}:2: broken JSON in column 19: expecting ',' delimiter, near "
        "'{\"messages\": [1, 2}'.\n"
        "Each line of a .jsonl file is one whole sample; a list is a .json file."
    )


def test_broken_row_of_json(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert refusal(path, f'[\n{ROW},\n  {{"image": "a.png"\n   "conversations": []}}]') == (
        f"{path}:4: broken JSON in column 4: expecting ',' delimiter, near "
        "'\"conversations\": []}]'. The rest of the file, 42 bytes from line 3, is not read.\n"
        "Mend the file there."
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[{}", ":1: broken JSON in column 4: expecting ',' or ']' after a sample, near '[{}'."),
        ("[{} {}]", ":1: broken JSON in column 5: expecting ',' or ']' after a sample, near "),
        ("[{},]", ":1: broken JSON in column 5: expecting value, near '[{},]'."),
        ("[{}]\n[{}]", ":2: broken JSON in column 1: text after the end of the list, near '[{}]'."),
        ("[{}]}", ":1: broken JSON in column 5: text after the end of the list, near '[{}]}'."),
    ],
)
def test_broken_list(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "a.json"
    assert refusal(path, content).startswith(f"{path}{message}")


def test_json_that_is_no_list(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert refusal(path, f"\n{ROW}\n{ROW}\n") == (
        f"{path}:2: a .json data file is a list of samples, and this one does not begin with [.\n"
        "Name the file .jsonl if each line is a sample."
    )
    assert refusal(path, '{"demo": {"file_name": "demo.json"}}').endswith(
        "This looks like a dataset_info.json: say which of its data sets with name."
    )


@pytest.mark.parametrize(("name", "line"), [("a.json", 2), ("a.jsonl", 2)])
def test_other_encoding(tmp_path: Path, name: str, line: int) -> None:
    path = tmp_path / name
    begin = "[\n" if name == "a.json" else f"{ROW}\n"
    content = begin.encode() + '{"text": "Grüße"}\n'.encode("latin-1")
    assert refusal(path, content) == (
        f"{path}:{line}: byte 0xfc is not UTF-8.\nSave the file as UTF-8."
    )


def test_nesting_without_end(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    assert refusal(path, "[" * 200_000) == f"{path}:1: nested too deep."


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not there")
def test_real_sharegpt_files() -> None:
    folder = SHARED / "llamafactory_demo"
    images = rows(folder / "mllm_demo.json")
    videos = rows(folder / "mllm_video_demo.json")
    assert [len(list(row.images())) for row in images[:2]] == [2, 1]
    assert images[0].messages[0].text == "Who are they?"
    assert images[1].origin.line == 26
    assert [path.name for row in videos for path in (v.path for v in row.videos())][:2] == [
        "1.mp4",
        "2.avi",
    ]


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not there")
def test_real_official_file() -> None:
    path = SHARED / "qwen_demo/single_images.json"
    with pytest.raises(DataError, match="has the file without 'demo' in front"):
        list(read_source(Source(path=path)))
    read = list(read_source(Source(path=path, strip_prefix="demo")))
    assert read[0].messages[0].text == "Is the value of Favorable 38 in 2015?"
    assert [next(row.images()).path.name for row in read[:3]] == [
        "10095.png",
        "10095.png",
        "10149.png",
    ]
