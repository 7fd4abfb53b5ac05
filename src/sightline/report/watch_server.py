"""The live page of a run over HTTP, for this machine alone.

What a page of another site could try is refused: another name in the Host header (DNS rebinding),
methods that send, and every address but the few that are known here. No file is asked for by name.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from sightline.errors import RunError
from sightline.report.moment import Cursor, FollowedRun
from sightline.report.watch_page import PAGE_FILES, report_now

FIRST_PORT = 8765
# Ports that are tried from the first one on, where none was asked for.
_NUM_TRIED = 50
# At whether the server is to end; a request is answered at once.
_SECONDS_BETWEEN_LOOKS = 0.2
_HOSTS = ("127.0.0.1", "::1")
_OWN_NAME = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)
_SINCE = re.compile(r"since=([0-9]{1,9})\.([0-9]{1,12})", re.ASCII)
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# The report says in itself what it may load, and allows its own scripts by their hashes.
_REPORT_POLICY = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class _Answer(NamedTuple):
    status: HTTPStatus
    kind: str
    body: bytes
    headers: dict[str, str]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host: str, port: int, run: FollowedRun) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.run = run
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # The base asks for the name of the address, which may wait for a network.
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "localhost", self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away in the middle of an answer is no error."""


class _Handler(BaseHTTPRequestHandler):
    server_version = "sightline"
    sys_version = ""
    timeout = 20

    @property
    def _run(self) -> FollowedRun:
        assert isinstance(self.server, _Server)
        return self.server.run

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def parse_request(self) -> bool:
        """Refuse what is neither GET nor HEAD before anything else is looked at."""
        if not super().parse_request():
            return False
        if self.command in ("GET", "HEAD"):
            return True
        self.close_connection = True
        text = "Only GET and HEAD: nothing here can be changed.\n"
        self._send(_text(HTTPStatus.METHOD_NOT_ALLOWED, text, Allow="GET, HEAD"))
        return False

    def _answer(self) -> None:
        names = self.headers.get_all("Host") or []
        if len(names) != 1 or not _OWN_NAME.fullmatch(names[0].strip()):
            self._send(
                _text(
                    HTTPStatus.FORBIDDEN,
                    "This page is asked for under localhost, 127.0.0.1 or [::1] alone.\n",
                )
            )
            return
        path, _, query = self.path.partition("?")
        if path == "/state":
            self._send(self._state(query))
        elif path == "/report":
            self._send(self._report())
        elif path in PAGE_FILES:
            kind, read = PAGE_FILES[path]
            body = read(self._run.name)
            self._send(_Answer(HTTPStatus.OK, kind, body, {"Content-Security-Policy": _POLICY}))
        else:
            self._send(_text(HTTPStatus.NOT_FOUND, "There is no such page.\n"))

    def _state(self, query: str) -> _Answer:
        version = f'"{self._run.version()}"'
        if self.headers.get("If-None-Match") == version:
            return _Answer(HTTPStatus.NOT_MODIFIED, "", b"", {"ETag": version})
        found = _SINCE.fullmatch(query)
        since = Cursor(int(found[1]), int(found[2])) if found else None
        try:
            moment = self._run.moment(since)
            tag = {"ETag": f'"{moment["version"]}"'}
        except RunError as error:
            # Told on the page, which asks again: a file that is broken now may be mended.
            moment, tag = {"error": str(error)}, {}
        body = json.dumps(moment, ensure_ascii=False, allow_nan=False).encode()
        return _Answer(HTTPStatus.OK, "application/json", body, tag)

    def _report(self) -> _Answer:
        try:
            body = report_now(self._run.path)
        except RunError as error:
            return _text(HTTPStatus.NOT_FOUND, f"There is no report yet. {error}\n")
        headers = {"Content-Security-Policy": _REPORT_POLICY}
        return _Answer(HTTPStatus.OK, "text/html; charset=utf-8", body, headers)

    def _send(self, answer: _Answer) -> None:
        self.send_response(answer.status)
        for name, value in (_HEADERS | answer.headers).items():
            self.send_header(name, value)
        if answer.status != HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads a line for every second in which the page asks."""


def _text(status: HTTPStatus, text: str, **headers: str) -> _Answer:
    return _Answer(status, "text/plain; charset=utf-8", text.encode(), headers)


@contextmanager
def serving(run: FollowedRun, port: int | None) -> Iterator[int]:
    """Serve the live page of a run while the block runs.

    Args:
        run: The run.
        port: The port, or None for the first one that is free.

    Yields:
        The port.

    Raises:
        RunError: The port is taken, or none is free.
    """
    servers = _bound(run, port)
    threads = [
        threading.Thread(target=one.serve_forever, args=(_SECONDS_BETWEEN_LOOKS,), daemon=True)
        for one in servers
    ]
    for thread in threads:
        thread.start()
    try:
        yield servers[0].server_port
    finally:
        for one in servers:
            one.shutdown()
            one.server_close()


def _bound(run: FollowedRun, port: int | None) -> list[_Server]:
    tried = [port] if port is not None else range(FIRST_PORT, FIRST_PORT + _NUM_TRIED)
    for number in tried:
        servers = _both(run, number)
        if servers:
            return servers
    if port is None:
        raise RunError(
            f"no port from {FIRST_PORT} to {FIRST_PORT + _NUM_TRIED - 1} is free.\n"
            "Name another one with --port."
        )
    raise RunError(
        f"--port {port}: another program listens there, or it is not for everybody's use.\n"
        "Leave --port out for the next one that is free, or name another."
    )


def _both(run: FollowedRun, port: int) -> list[_Server]:
    """Servers on both loopback addresses, or none where one of them is taken.

    A browser may ask either of them for ``localhost``: where another program had one, it would
    show that program's page.
    """
    servers: list[_Server] = []
    for host in _HOSTS:
        if ":" in host and not _has_ipv6():
            continue
        try:
            servers.append(_Server(host, port, run))
        except OSError:
            for one in servers:
                one.server_close()
            return []
    return servers


def _has_ipv6() -> bool:
    """Whether this machine has the loopback address of IPv6; containers often do not."""
    if not socket.has_ipv6:
        return False
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
