"""Tables: rows by their place, media in every form, one message for a fault."""

from __future__ import annotations

import base64
import io
import pickle
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sightline.config import Source
from sightline.data.conversation import Conversation
from sightline.data.images import load_image, probe_image_size
from sightline.data.rows import tables
from sightline.data.sources import open_source, read_source
from sightline.errors import DataError

ROWS = [{"query": f"Question {index}?", "response": f"Answer {index}."} for index in range(5)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``datasets`` keeps goes away with the test."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def png(width: int = 8, height: int = 6) -> bytes:
    held = io.BytesIO()
    Image.new("RGB", (width, height), (10, 20, 30)).save(held, "PNG", compress_level=0)
    return held.getvalue()


def conversations(source: Source, folder: Path) -> list[Conversation]:
    """All samples; each is read once more by its place, from a reader that is opened anew."""
    [reader] = open_source(source, folder=folder)
    [again] = open_source(source, folder=folder)
    found = []
    for chunk in reader.rows.chunks():
        for raw in reader.rows.read(chunk):
            for parsed in reader.parse(raw):
                assert parsed.fault is None, parsed.fault
                assert parsed.conversation is not None
                place = (parsed.origin, raw.offset, raw.num_bytes)
                assert again.conversation(*place) == parsed.conversation
                found.append(parsed.conversation)
    return found


def said(found: list[Conversation]) -> list[tuple[str, ...]]:
    return [tuple(message.text for message in one.messages) for one in found]


def refusal(source: Source, folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        list(read_source(source, folder=folder))
    return str(caught.value)


def write_table(path: Path, rows: list[dict]) -> Path:
    table = pa.Table.from_pylist(rows)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".csv":
        names = list(rows[0])
        lines = [",".join(names), *(",".join(row[name] for name in names) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".csv"])
def test_a_table(tmp_path: Path, suffix: str) -> None:
    path = write_table(tmp_path / f"a{suffix}", ROWS)
    found = conversations(Source(path=path), tmp_path)
    assert said(found) == [(row["query"], row["response"]) for row in ROWS]
    assert [str(one.origin) for one in found] == [f"{path} row {index}" for index in range(5)]


def test_a_folder_of_tables_is_read_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    write_table(folder / "b.parquet", ROWS[3:])
    write_table(folder / "a.parquet", ROWS[:3])
    (folder / "notes.txt").write_text("not a table")
    found = conversations(Source(path=folder), tmp_path)
    assert said(found) == [(row["query"], row["response"]) for row in ROWS]
    assert str(found[4].origin) == f"{folder} row 4"


def test_a_folder_of_several_kinds(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", ROWS)
    write_table(tmp_path / "b.csv", ROWS)
    assert refusal(Source(path=tmp_path), tmp_path) == (
        f"{tmp_path}: the folder holds files of several kinds: .csv, .parquet.\n"
        "Name one file, or keep one kind."
    )


def test_chunks_of_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_CHUNK_NUM_ROWS", 2)
    path = write_table(tmp_path / "a.parquet", ROWS)
    [reader] = open_source(Source(path=path), folder=tmp_path)
    chunks = list(reader.rows.chunks())
    assert [(chunk.offset, chunk.num_rows, chunk.first_index) for chunk in chunks] == [
        (0, 2, 0),
        (2, 2, 2),
        (4, 1, 4),
    ]
    assert len({chunk.digest for chunk in chunks}) == 3
    assert [raw.value for raw in reader.rows.read(chunks[1])] == ROWS[2:4]
    copy = pickle.loads(pickle.dumps(reader.rows))
    assert [raw.value for raw in copy.read(chunks[2])] == ROWS[4:]
    assert copy.stamp() == reader.rows.stamp()


def test_a_row_behind_the_end(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.parquet", ROWS)
    [reader] = open_source(Source(path=path), folder=tmp_path)
    [chunk] = reader.rows.chunks()
    origin = next(iter(reader.rows.read(chunk))).origin
    with pytest.raises(DataError, match="the row is not there any more"):
        reader.conversation(origin, 5, 0)


def test_a_changed_table_has_another_stamp(tmp_path: Path) -> None:
    stamps = []
    for rows in (ROWS, ROWS[:4]):
        path = write_table(tmp_path / "a.parquet", rows)
        [reader] = open_source(Source(path=path), folder=tmp_path)
        stamps.append(reader.rows.stamp())
    assert stamps[0] != stamps[1]


def test_a_saved_data_set(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    datasets.Dataset.from_list(ROWS).save_to_disk(str(folder))
    found = conversations(Source(path=folder), tmp_path)
    assert said(found) == [(row["query"], row["response"]) for row in ROWS]


def test_splits_of_a_saved_data_set(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    parts = {"train": ROWS[:3], "validation": ROWS[3:]}
    whole = datasets.DatasetDict({k: datasets.Dataset.from_list(v) for k, v in parts.items()})
    whole.save_to_disk(str(folder))
    assert len(conversations(Source(path=folder), tmp_path)) == 3
    found = conversations(Source(path=folder, split="validation"), tmp_path)
    assert said(found) == [("Question 3?", "Answer 3."), ("Question 4?", "Answer 4.")]
    assert refusal(Source(path=folder, split="test"), tmp_path) == (
        f"{folder}: there is no split 'test'; there are train, validation.\nSet split."
    )


@pytest.mark.parametrize(
    "form", ["bytes", "struct", "struct with a path", "feature", "base64", "data URI", "path"]
)
def test_forms_of_a_picture(tmp_path: Path, form: str) -> None:
    (tmp_path / "a.png").write_bytes(png())
    text = base64.b64encode(png(64, 48)).decode()
    given, size = {
        "bytes": (png(), (6, 8)),
        "struct": ({"bytes": png(), "path": None}, (6, 8)),
        "struct with a path": ({"bytes": None, "path": "a.png"}, (6, 8)),
        "feature": (str(tmp_path / "a.png"), (6, 8)),
        "base64": (text, (48, 64)),
        "data URI": (f"data:image/png;base64,{text}", (48, 64)),
        "path": ("a.png", (6, 8)),
    }[form]
    row = {"query": "<image>What?", "response": "A.", "images": [given]}
    if form == "feature":
        table = datasets.Dataset.from_list([row])
        table = table.cast_column("images", datasets.Sequence(datasets.Image()))
        table.to_parquet(str(tmp_path / "a.parquet"))
    else:
        write_table(tmp_path / "a.parquet", [row])
    [found] = conversations(Source(path=tmp_path / "a.parquet"), tmp_path)
    [image] = found.images()
    assert image.field == "images[0]"
    assert (image.content is None) == (form in ("struct with a path", "path", "feature"))
    assert probe_image_size(image.path, content=image.content) == size
    assert load_image(image.path, content=image.content).getpixel((0, 0)) == (10, 20, 30)


def test_a_saved_feature_holds_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    rows = [{"query": "<image>What?", "response": "A.", "image": str(tmp_path / "a.png")}]
    table = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
    table.save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "a.png").unlink()
    [found] = conversations(Source(path=tmp_path / "saved"), tmp_path)
    [image] = found.images()
    assert image.content == png()
    assert str(image.path) == f"{tmp_path}/saved#0/image/a.png"


def test_base64_that_is_none(tmp_path: Path) -> None:
    row = {"query": "<image>?", "response": "A", "images": ["data:image/png;base64,@@"]}
    path = write_table(tmp_path / "a.parquet", [row])
    assert refusal(Source(path=path), tmp_path).startswith(
        f"{path}: row 0, images[0]: the base64 data cannot be decoded: "
    )


def test_nulls_inside_structs_are_fields_that_are_not_there(tmp_path: Path) -> None:
    messages = [
        {
            "role": "user",
            "content": [
                {"type": "image", "image": {"bytes": png(), "path": None}, "text": None},
                {"type": "text", "image": None, "text": "What?"},
            ],
            "loss": None,
        },
        {
            "role": "assistant",
            "content": [{"type": "text", "image": None, "text": "A."}],
            "loss": None,
        },
    ]
    rows = [
        {"messages": messages, "tools": None, "objects": {"ref": None, "bbox": None}},
        {"messages": messages, "tools": None, "objects": None},
    ]
    path = write_table(tmp_path / "a.parquet", rows)
    [reader] = open_source(Source(path=path), folder=tmp_path)
    [chunk] = reader.rows.chunks()
    first, second = reader.rows.read(chunk)
    assert second.value == {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image", "image": {"bytes": png()}},
                    {"type": "text", "text": "What?"},
                ],
            },
            {"role": "assistant", "content": [{"type": "text", "text": "A."}]},
        ]
    }
    assert [reader.format_of(raw) for raw in (first, second)] == ["openai", "openai"]
    assert said(conversations(Source(path=path), tmp_path)) == [("What?", "A.")] * 2


def test_values_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("query,response\nHow many?,3\n")
    assert refusal(Source(path=path), tmp_path) == (
        f"{path}: row 0, response: text expected, found a number."
    )


def test_a_table_without_rows(tmp_path: Path) -> None:
    name = tmp_path / "empty"
    rows = tables.TableRows(name, lambda: datasets.Dataset.from_dict({"query": []}))
    with pytest.raises(DataError) as caught:
        list(rows.chunks())
    assert str(caught.value) == f"{name}: the data set has no row."
    path = tmp_path / "a.csv"
    path.write_text("query,response\n")
    assert refusal(Source(path=path), tmp_path).startswith(f"{path}: the data set cannot be read: ")


def test_the_cause_is_told_and_not_that_there_is_one(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"query": pa.array([], pa.string())}), path)
    message = refusal(Source(path=path), tmp_path)
    assert message.startswith(f"{path}: the data set cannot be read: ")
    assert "DatasetGenerationError" not in message


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
@pytest.mark.parametrize("content", [b"", b"PAR1", b"nonsense" * 100])
def test_a_broken_table_is_one_message(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    message = refusal(Source(path=path), tmp_path)
    assert message.startswith(f"{path}: the data set cannot be read: ")
    assert message.splitlines()[1:] == [
        "Check the file, or the name of the data set, its subset and split."
    ]
