"""Media by their address, from a server on this machine: what is fetched, and what is not."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest

from sightline.config import RunConfig
from sightline.data.conversation import Origin
from sightline.data.downloads import Downloads, FetchError, allowed_host
from sightline.data.formats import MediaFolder
from sightline.data.images import load_image
from sightline.errors import MediaError
from sightline.model import open_checkpoint
from sightline.preparation import prepare_data

ORIGIN = Origin(file=Path("train.json"), line=2, index=0)
PICTURE_NUM_BYTES = 2_000_000


class Server:
    """A server with a word for every case; it keeps what it was asked for."""

    def __init__(self, picture: bytes) -> None:
        self.picture = picture
        self.asked: list[str] = []
        self.hold = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                outer.answer(self)

            def log_message(self, format: str, *args: object) -> None: ...

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.port = self._http.server_port
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        """The address of a path."""
        return f"http://{host}:{self.port}{path}"

    def stop(self) -> None:
        """Answer nothing any more."""
        self.hold.set()
        self._http.shutdown()
        self._http.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """What the path asks for."""
        name = request.path.partition("?")[0].strip("/")
        if name.startswith("to-"):
            request.send_response(302)
            request.send_header("Location", {
                "to-same": "/a.png",
                "to-other": self.url("/a.png", "localhost"),
                "to-file": "file:" + "///etc/hostname",
                "to-ftp": "ftp://127.0.0.1/a.png",
                "to-itself": "/to-itself",
            }[name])  # fmt: skip
            request.end_headers()
            return
        if name in ("none.png", "broken.png"):
            request.send_error(404 if name == "none.png" else 503)
            return
        body = {
            "empty.png": b"",
            "page.png": b"\xef\xbb\xbf \n<!DOCTYPE html><html>Log in</html>",
            "large.png": b"\x89PNG" + bytes(PICTURE_NUM_BYTES),
            "endless.png": b"\x89PNG" + bytes(PICTURE_NUM_BYTES),
        }.get(name, self.picture)
        request.send_response(200)
        request.send_header("Content-Type", "image/png")
        if name not in ("endless.png", "unsized.png"):
            more = 100 if name == "short.png" else 0
            request.send_header("Content-Length", str(len(body) + more))
        request.end_headers()
        if name == "silent.png":
            self.hold.wait(20)
        if name == "dripping.png":
            for byte in body:
                if self.hold.wait(0.02):
                    return
                request.wfile.write(bytes([byte]))
                request.wfile.flush()
            return
        try:
            request.wfile.write(body)
        except OSError:
            # Who asked has heard enough.
            return


@pytest.fixture
def server(media_corpus: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server on this machine, asked without a proxy."""
    monkeypatch.setenv("no_proxy", "*")
    made = Server(media_corpus.PICTURES["rgba"][1]())
    yield made
    made.stop()


@pytest.fixture
def downloads(tmp_path: Path) -> Downloads:
    """A folder for what is fetched, with short times."""
    return Downloads(
        folder=tmp_path / "kept",
        hosts=("127.0.0.1",),
        max_mib=1,
        stall_seconds=0.5,
        total_seconds=1.0,
    )


def refusal(downloads: Downloads, url: str) -> FetchError:
    with pytest.raises(FetchError) as caught:
        downloads.fetch(url)
    # Nothing half is left behind.
    assert not downloads.folder.exists() or not list(downloads.folder.iterdir())
    return caught.value


def test_a_file_is_fetched_once_and_is_a_file_from_then_on(
    server: Server, downloads: Downloads
) -> None:
    path = downloads.fetch(server.url("/a.png?size=3#top"))
    assert path.read_bytes() == server.picture
    assert path.parent == downloads.folder
    assert path.suffix == ".png"
    assert downloads.fetch(server.url("/a.png?size=3")) == path
    assert server.asked == ["/a.png?size=3"]
    assert downloads.fetch(server.url("/a.png?size=4")) != path
    server.stop()
    assert downloads.fetch(server.url("/a.png?size=3")) == path
    assert {file.suffix for file in downloads.folder.iterdir()} == {".png"}
    assert len(list(downloads.folder.iterdir())) == 2


def test_without_a_size_and_with_letters_of_all_kinds(server: Server, downloads: Downloads) -> None:
    assert downloads.fetch(server.url("/unsized.png")).read_bytes() == server.picture
    assert downloads.fetch(server.url("/ein Bild ä.png")).read_bytes() == server.picture
    assert server.asked[1] == "/ein%20Bild%20%C3%A4.png"


def test_a_host_that_is_not_named_is_not_asked(server: Server, downloads: Downloads) -> None:
    error = refusal(downloads, server.url("/a.png", "localhost"))
    assert error.code == "media.address"
    assert error.what == "the host localhost is not named in url_hosts, so it is not asked."
    assert error.fix.startswith("Add url_hosts: [localhost] beside")
    assert server.asked == []
    every = Downloads(folder=downloads.folder, hosts=("*",))
    assert every.fetch(server.url("/a.png", "localhost")).read_bytes() == server.picture


def test_redirects_lead_to_named_hosts_only(server: Server, downloads: Downloads) -> None:
    error = refusal(downloads, server.url("/to-other"))
    assert error.code == "media.address"
    assert error.what.startswith(f"it redirects to 'http://localhost:{server.port}/a.png'")
    assert "the host localhost is not named in url_hosts" in error.what
    assert "is not allowed" in refusal(downloads, server.url("/to-file")).what
    error = refusal(downloads, server.url("/to-ftp"))
    assert "it is not http:// or https:// with the name of a host." in error.what
    assert "/a.png" not in server.asked
    assert "302" in refusal(downloads, server.url("/to-itself")).what
    assert downloads.fetch(server.url("/to-same")).read_bytes() == server.picture


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("/large.png", "the file has 2000004 bytes; data.max_download_mib is 1, 1048576 bytes."),
        ("/endless.png",
         "the file has more than 1048576 bytes; data.max_download_mib is 1, 1048576 bytes."),
        ("/none.png", "the server answers 404 Not Found."),
        ("/broken.png", "the server answers 503 Service Unavailable."),
        ("/empty.png", "the answer ends after 0 of 0 bytes."),
        ("/page.png", "the server answers with a page and not with a media file."),
        ("/silent.png", "it cannot be fetched: no answer in time."),
    ],
)  # fmt: skip
def test_answers_that_are_no_media_file(
    server: Server, downloads: Downloads, path: str, what: str
) -> None:
    error = refusal(downloads, server.url(path))
    assert error.what == what
    assert error.code == "media.download"
    assert error.fix


def test_an_answer_that_breaks_off(server: Server, downloads: Downloads) -> None:
    error = refusal(downloads, server.url("/short.png"))
    assert f"{len(server.picture)} of {len(server.picture) + 100} bytes" in error.what


def test_a_server_that_drips(server: Server, downloads: Downloads) -> None:
    start = time.monotonic()
    error = refusal(downloads, server.url("/dripping.png"))
    assert "bytes came in 1 seconds." in error.what
    assert time.monotonic() - start < 3


def test_a_host_that_is_away_is_given_up(downloads: Downloads, monkeypatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{taken.getsockname()[1]}/a.png"
        for _ in range(3):
            assert "it cannot be fetched: " in refusal(downloads, away).what
        assert refusal(downloads, away).what == (
            "127.0.0.1 did not answer 3 times, and was not asked again."
        )


@pytest.mark.parametrize(
    "address",
    [
        "http://",
        "http:///a.png",
        "http://user:secret@127.0.0.1/a.png",
        "http://127.0.0.1\\@example.org/a.png",
        "http://127.0.0.1#@example.org/",
        "http://127.0.0.1 .example.org/a.png",
        "http://127.0.0.1\n.example.org/a.png",
        "http://[::1/a.png",
        "http://ex\u00e4mple.org/a.png",
        "http://127.0.0.1:port/a.png",
        "file://127.0.0.1/etc/hostname",
        "http://127.0.0.1.example.org/a.png",
        "http://example.org/127.0.0.1",
        "http://127.0.0.1.",
        "http://\ud800/",
    ],
)
def test_addresses_that_only_look_allowed(downloads: Downloads, address: str) -> None:
    if address == "http://127.0.0.1#@example.org/":
        # What stands behind # is not part of the host in any reader.
        assert allowed_host(address, downloads.hosts) == "127.0.0.1"
        return
    with pytest.raises(FetchError) as caught:
        allowed_host(address, downloads.hosts)
    assert caught.value.code == "media.address"


def test_names_of_hosts() -> None:
    assert allowed_host("HTTP://Example.ORG:8080/a.png", ["example.org"]) == "example.org"
    assert allowed_host("https://[::1]:8080/a.png", ["::1"]) == "::1"
    with pytest.raises(FetchError) as caught:
        allowed_host("https://[::1]/a.png", [])
    assert caught.value.fix.startswith('Add url_hosts: ["::1"]')


def test_a_sample_names_an_address(server: Server, downloads: Downloads, tmp_path: Path) -> None:
    folder = pickle.loads(pickle.dumps(MediaFolder(root=tmp_path, downloads=downloads)))
    part = folder.part(server.url("/a.png"), "image", origin=ORIGIN, field="images[0]")
    assert load_image(part.path).size == (84, 56)
    with pytest.raises(MediaError) as caught:
        folder.resolve(server.url("/none.png"), origin=ORIGIN, field="images[0]")
    assert str(caught.value) == (
        f"train.json:2: images[0]: '{server.url('/none.png')}': the server answers 404 Not Found."
        "\nMend the address, or leave the sample out."
    )
    assert caught.value.code == "media.download"


def _fetch(downloads: Downloads, url: str, barrier, told) -> None:
    barrier.wait(20)
    told.put(downloads.fetch(url).read_bytes())


def test_processes_that_fetch_the_same_file_at_once(server: Server, downloads: Downloads) -> None:
    context = multiprocessing.get_context("fork")
    barrier, told = context.Barrier(4), context.Queue()
    args = (downloads, server.url("/a.png"), barrier, told)
    workers = [context.Process(target=_fetch, args=args) for _ in range(4)]
    for worker in workers:
        worker.start()
    assert [told.get(timeout=20) for _ in workers] == [server.picture] * 4
    for worker in workers:
        worker.join(20)
        assert worker.exitcode == 0
    assert len(list(downloads.folder.iterdir())) == 1


def test_a_run_fetches_its_pictures_once(
    server: Server, tmp_path: Path, tiny_folder: Callable[[str], Path], monkeypatch
) -> None:
    """The whole way: quarantined where it is not allowed, then fetched, then without a network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    said = [{"from": "human", "value": "<image>What?"}, {"from": "gpt", "value": "A star."}]
    rows = [{"image": server.url(f"/{name}.png"), "conversations": said} for name in ("a", "none")]
    rows.append({"image": "own.png", "conversations": said})
    (tmp_path / "own.png").write_bytes(server.picture)
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    checkpoint = open_checkpoint(str(tiny_folder("qwen2_5_vl")))

    def codes(**source: object) -> list[str | None]:
        config = RunConfig.model_validate(
            {
                "model": "tiny:qwen2_5_vl",
                "output": str(tmp_path / "run"),
                "data": {"train": [{"path": str(path), **source}]},
            }
        )
        data = prepare_data(config, checkpoint).train
        [table] = data.files[0].tables()
        assert all(sample.images[0].part.path.is_file() for sample in data.samples)
        return table.column("code").to_pylist()

    assert codes() == ["media.address", "media.address", None]
    assert server.asked == []
    assert codes(url_hosts=["127.0.0.1"]) == [None, "media.download", None]
    assert sorted(set(server.asked)) == ["/a.png", "/none.png"]
    assert server.asked.count("/a.png") == 1
    server.stop()
    assert codes(url_hosts=["127.0.0.1"]) == [None, "media.download", None]
    assert [file.suffix for file in (tmp_path / "index/downloads").iterdir()] == [".png"]
