"""Tables and hub data sets: rows by their place, media in every form, one message for a fault.

The hub is a small server on this machine that answers what ``datasets`` asks of it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

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


COMMIT = "1" * 40


class Hub(BaseHTTPRequestHandler):
    """The routes of the hub for one data set, tiny/pictures, whose files the server holds."""

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path.startswith("/datasets/tiny/pictures/resolve/"):
            self._file(path.split("/", 6)[-1])
        elif path.startswith("/api/datasets/tiny/pictures/tree/"):
            # Only the root has files.
            found = self._entries() if path.endswith(COMMIT) else None
            self._json(found) if found else self._missing("EntryNotFound")
        elif path.startswith("/api/datasets/tiny/pictures"):
            names = [{"rfilename": name} for name in self._files()]
            self._json({"_id": "1", "id": "tiny/pictures", "sha": COMMIT, "siblings": names})
        else:
            self._missing("RepoNotFound")

    do_HEAD = do_GET  # noqa: N815 - the library's name

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self._json([entry for entry in self._entries() if entry["path"] in asked])

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _files(self) -> dict[str, bytes]:
        assert isinstance(self.server, HubServer)
        return self.server.files

    def _entries(self) -> list[dict[str, Any]]:
        return [
            {"type": "file", "path": name, "size": len(content), "oid": tag(content)}
            for name, content in self._files().items()
        ]

    def _file(self, name: str) -> None:
        content = self._files().get(name)
        if content is None:
            self._missing("EntryNotFound")
            return
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{tag(content)}"', "Accept-Ranges": "bytes"}
        asked = self.headers.get("Range")
        if asked is None:
            self._reply(200, content, headers)
            return
        first, last = asked.removeprefix("bytes=").split("-")
        part = content[int(first) : int(last or len(content)) + 1]
        end = int(first) + len(part) - 1
        headers["Content-Range"] = f"bytes {first}-{end}/{len(content)}"
        self._reply(206, part, headers)

    def _json(self, value: object) -> None:
        self._reply(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _missing(self, code: str) -> None:
        self._reply(404, b"", {"X-Error-Code": code})

    def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class HubServer(ThreadingHTTPServer):
    """A hub with some files."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Hub)
        self.files = files


def tag(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    path = tmp_path / "train.parquet"
    struct = {"bytes": png(), "path": "a.png"}
    rows = [row | {"query": f"<image>{row['query']}", "images": [struct]} for row in ROWS]
    table = datasets.Dataset.from_list(rows)
    table = table.cast_column("images", datasets.Sequence(datasets.Image()))
    table.to_parquet(str(path))
    server = HubServer({"train.parquet": path.read_bytes()})
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


# The address of the hub is fixed when the libraries are imported: a process of its own.
SCRIPT = """
import json, sys
from pathlib import Path
from sightline.config import Source
from sightline.data.sources import open_source
from sightline.errors import DataError

told = []
for given in json.loads(sys.argv[1]):
    answers = []
    try:
        [reader] = open_source(Source(**given), folder=Path(sys.argv[2]))
        for chunk in reader.rows.chunks():
            for raw in reader.rows.read(chunk):
                [parsed] = reader.parse(raw)
                again = reader.conversation(parsed.origin, raw.offset, raw.num_bytes)
                assert again == parsed.conversation
                [image] = again.images()
                answers.append([str(again.origin), again.messages[0].text, len(image.content)])
    except DataError as error:
        answers.append(str(error))
    told.append(answers)
print(json.dumps(told))
"""


def test_hub_data_sets_whole_and_streamed(tmp_path: Path, hub: str) -> None:
    sources = [
        {"hub": "tiny/pictures"},
        {"hub": "tiny/pictures", "streaming": True, "num_samples": 3},
        {"hub": "tiny/pictures", "split": "test"},
        {"hub": "tiny/pictures", "split": "test", "streaming": True, "num_samples": 3},
        {"hub": "tiny/none"},
        {"hub": "tiny/none", "streaming": True, "num_samples": 1},
    ]
    kept = tmp_path / "kept"
    environment = os.environ | {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "hf")}
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_TOKEN", "HF_DATASETS_CACHE"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(sources), str(kept)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    whole, streamed, *faults = json.loads(done.stdout.splitlines()[-1])
    assert whole == [
        [f"tiny/pictures row {index}", f"Question {index}?", len(png())] for index in range(5)
    ]
    assert streamed == whole[:3]
    assert [len(list(kept.glob(pattern))) for pattern in ("*.jsonl", "*.part")] == [1, 0]
    for given, [message] in zip(sources[2:], faults, strict=True):
        assert message.startswith(f"{given['hub']}: the data set cannot be read: ")
        assert len(message.splitlines()) == 2
