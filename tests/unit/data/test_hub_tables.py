"""Data sets of the hub, whole and streamed.

The hub is a small server on this machine that answers what ``datasets`` asks of it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

NUM_ROWS = 5
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
def picture() -> bytes:
    """A picture as a file."""
    held = io.BytesIO()
    Image.new("RGB", (8, 6), (10, 20, 30)).save(held, "PNG", compress_level=0)
    return held.getvalue()


@pytest.fixture
def hub(tmp_path: Path, picture: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    # What `datasets` keeps goes away with the test.
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    path = tmp_path / "train.parquet"
    rows = [
        {
            "query": f"<image>Question {index}?",
            "response": f"Answer {index}.",
            "images": [{"bytes": picture, "path": "a.png"}],
        }
        for index in range(NUM_ROWS)
    ]
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


def test_hub_data_sets_whole_and_streamed(tmp_path: Path, hub: str, picture: bytes) -> None:
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
        [f"tiny/pictures row {index}", f"Question {index}?", len(picture)]
        for index in range(NUM_ROWS)
    ]
    assert streamed == whole[:3]
    assert [len(list(kept.glob(pattern))) for pattern in ("*.jsonl", "*.part")] == [1, 0]
    for given, [message] in zip(sources[2:], faults, strict=True):
        assert message.startswith(f"{given['hub']}: the data set cannot be read: ")
        assert len(message.splitlines()) == 2
