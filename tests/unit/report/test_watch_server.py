"""The live page over HTTP: what is answered, with which headers, and what is refused."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import RunError
from sightline.records import append_jsonl
from sightline.report.moment import FollowedRun
from sightline.report.watch_server import FIRST_PORT, serving


class Answer:
    """An answer of the server."""

    def __init__(self, found: http.client.HTTPResponse) -> None:
        self.status = found.status
        self.headers = dict(found.getheaders())
        self.body = found.read()


class Client:
    """Asks the server of a run."""

    def __init__(self, run: Path, port: int) -> None:
        self.run = run
        self.port = port

    def ask(self, path: str, *, method: str = "GET", **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.putrequest(method, path, skip_host="Host" in headers)
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders()
            return Answer(connection.getresponse())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, maker: Any) -> Iterator[Client]:
    """Asks for a finished run, which stays as it is."""
    folder = tmp_path_factory.mktemp("served")
    run = maker.make_run(folder / "run")
    (folder / "secret.txt").write_text("secret", encoding="utf-8")
    with serving(FollowedRun(run), None) as port:
        yield Client(run, port)


@pytest.fixture
def fresh(tmp_path: Path, maker: Any) -> Iterator[Client]:
    """Asks for a run of its own."""
    run = maker.make_run(tmp_path / "run")
    with serving(FollowedRun(run), None) as port:
        yield Client(run, port)


@pytest.mark.parametrize(
    ("path", "kind", "begins"),
    [
        ("/", "text/html; charset=utf-8", b"<!DOCTYPE html>"),
        ("/style.css", "text/css; charset=utf-8", b":root {"),
        ("/watch.js", "text/javascript; charset=utf-8", b"// The live page"),
        ("/charts.js", "text/javascript; charset=utf-8", b"// Curves"),
        ("/page.js", "text/javascript; charset=utf-8", b"// What"),
        ("/state", "application/json", b'{"name": "run"'),
        ("/report", "text/html; charset=utf-8", b"<!DOCTYPE html>"),
    ],
)
def test_what_there_is_is_answered(client: Client, path: str, kind: str, begins: bytes) -> None:
    answer = client.ask(path)
    assert (answer.status, answer.headers["Content-Type"]) == (200, kind)
    assert answer.body.startswith(begins)
    head = client.ask(path, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    # An age is in the state, whose length changes.
    if path != "/state":
        assert head.headers["Content-Length"] == str(len(answer.body))


@pytest.mark.parametrize("path", ["/", "/state", "/report", "/nothing"])
def test_every_answer_is_for_this_page_alone(client: Client, path: str) -> None:
    headers = client.ask(path, Origin="http://evil.example").headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Server"].strip() == "sightline"
    assert not [name for name in headers if name.lower().startswith("access-control-")]


def test_the_page_may_load_nothing_from_elsewhere(client: Client) -> None:
    policy = client.ask("/").headers["Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert {rules[f"{kind}-src"] for kind in ("script", "style", "connect")} == {"'self'"}
    assert rules["frame-ancestors"] == "'none'"
    assert "unsafe" not in policy
    html = client.ask("/").body.decode()
    # Relative, so that they hold behind ssh -L and under any name.
    for address in ("style.css", "watch.js", "charts.js", "page.js"):
        assert f'="{address}"' in html
    assert "http://" not in html
    assert "https://" not in html


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8765",
        "127.0.0.1.evil.example",
        "localhost@evil",
        "",
        "192.168.0.7",
    ],
)
@pytest.mark.parametrize("path", ["/", "/state"])
def test_another_name_is_refused(client: Client, host: str, path: str) -> None:
    answer = client.ask(path, Host=host)
    assert answer.status == 403
    assert b"loss" not in answer.body


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:9000", "127.0.0.1:1", "[::1]:8765", "LOCALHOST"]
)
def test_own_names_hold_at_any_port(client: Client, host: str) -> None:
    assert client.ask("/state", Host=host).status == 200


def test_two_names_are_refused(client: Client) -> None:
    with socket.create_connection(("127.0.0.1", client.port), timeout=10) as connection:
        connection.sendall(b"GET /state HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        assert b" 403 " in connection.recv(4096).split(b"\r\n")[0]


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "//etc/passwd",
        "/config.yaml",
        "/metrics.jsonl",
        "/watch.js/../../secret.txt",
        "/state/",
        "http://127.0.0.1/state",
        "/\x00",
    ],
)
def test_no_file_can_be_asked_for(client: Client, path: str) -> None:
    with socket.create_connection(("127.0.0.1", client.port), timeout=10) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        told = b""
        while part := connection.recv(65536):
            told += part
    assert b" 404 " in told.split(b"\r\n")[0]
    assert b"secret" not in told
    assert b"root:" not in told


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"])
def test_only_reading_is_allowed(client: Client, method: str) -> None:
    answer = client.ask("/state", method=method)
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD"


def test_what_did_not_change_costs_nothing(fresh: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    version = fresh.ask("/state").headers["ETag"]
    monkeypatch.setattr(FollowedRun, "moment", lambda *_: pytest.fail("it was read again"))
    answer = fresh.ask("/state", If_None_Match=version)
    assert (answer.status, answer.body) == (304, b"")
    monkeypatch.undo()
    append_jsonl(fresh.run / "metrics.jsonl", {"step": 51, "loss": 0.5})
    answer = fresh.ask("/state", If_None_Match=version)
    assert answer.status == 200
    assert answer.headers["ETag"] != version


def test_only_new_points_are_sent(fresh: Client) -> None:
    curves = json.loads(fresh.ask("/state").body)["curves"]
    append_jsonl(fresh.run / "metrics.jsonl", {"step": 51, "loss": 0.5})
    since = f"/state?since={curves['generation']}.{curves['line']}"
    assert json.loads(fresh.ask(since).body)["curves"]["points"] == {"loss": [[51.0, 0.5]]}
    for wrong in ("since=", "since=-1.-1", "since=1.2&x=1", "since=1e9.0", "since=%D9%A3.0"):
        answer = fresh.ask(f"/state?{wrong}")
        assert json.loads(answer.body)["curves"]["is_whole"]


def test_a_broken_record_is_told_until_it_is_mended(fresh: Client) -> None:
    certificate = fresh.run / "certificate.json"
    whole = certificate.read_bytes()
    certificate.write_bytes(b"{")
    told = json.loads(fresh.ask("/state").body)
    assert "certificate.json: the file is broken" in told["error"]
    assert fresh.ask("/report").status == 404
    certificate.write_bytes(whole)
    assert json.loads(fresh.ask("/state").body)["state"]["kind"] == "holds"


def test_a_run_that_waits_has_no_report(tmp_path: Path) -> None:
    with serving(FollowedRun(tmp_path / "later"), None) as port:
        answer = Client(tmp_path, port).ask("/report")
    assert answer.status == 404
    assert b"There is no report yet." in answer.body


def test_the_next_free_port_is_taken(tmp_path: Path) -> None:
    run = FollowedRun(tmp_path)
    with serving(run, None) as first, serving(run, None) as second:
        # The second may be the lower one, where another program gave one up in between.
        assert first != second
        assert min(first, second) >= FIRST_PORT


def test_a_port_that_is_taken_is_one_message(tmp_path: Path) -> None:
    run = FollowedRun(tmp_path)
    with (
        serving(run, None) as port,
        pytest.raises(RunError, match=f"--port {port}: another program") as refusal,
        serving(run, port),
    ):
        pass
    assert "Leave --port out" in str(refusal.value)


def test_a_port_that_is_taken_on_one_address_is_not_used(tmp_path: Path) -> None:
    """A browser may ask either address for localhost, and would show the other program's page."""
    try:
        other = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no ::1")
    with (
        other,
        pytest.raises(RunError, match="another program"),
        serving(FollowedRun(tmp_path), other.getsockname()[1]),
    ):
        pass


def test_nobody_outside_this_machine_is_answered(client: Client) -> None:
    listening = [
        line.split()
        for name in ("/proc/net/tcp", "/proc/net/tcp6")
        if Path(name).is_file()
        for line in Path(name).read_text(encoding="ascii").splitlines()[1:]
    ]
    if not listening:
        pytest.skip("this system does not list its sockets in /proc/net")
    port = f"{client.port:04X}"
    places = {
        fields[1].split(":")[0]
        for fields in listening
        if fields[1].endswith(f":{port}") and fields[3] == "0A"
    }
    assert places
    assert places <= {"0100007F", "00000000000000000000000001000000"}
