"""Media that a sample names by an address: fetched once from hosts that are allowed, then a file.

The standard library fetches: what is needed is one request, a time limit, a size limit and a word
about every redirect, and it adds no dependency.
"""

from __future__ import annotations

import http.client
import ipaddress
import re
import time
import urllib.error
import urllib.request
from collections.abc import Collection
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import quote, urlsplit

from sightline import __version__
from sightline.records import atomic_file, shown_address

EVERY_HOST = "*"

_MEBIBYTE = 1024 * 1024
_CHUNK_NUM_BYTES = 64 * 1024
_SUFFIX = re.compile(r"\.[a-z0-9]{1,5}")
# A host and a port and nothing else: no name and password, and nothing that two readers of
# addresses would read in two ways.
_PLACE = re.compile(r"(?P<host>[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(?::\d{1,5})?")
# What is left as it is: it has its meaning in an address, or is escaped already.
_UNQUOTED = "/%:=&?~+!$,;'@()*[]"
_MOST_SILENT = 3
_NETWORK = (OSError, http.client.HTTPException, ValueError)


class FetchError(Exception):
    """Why a file was not fetched: what happened, what to do, and the kind of fault."""

    def __init__(self, what: str, fix: str, code: str = "media.download") -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix
        self.code = code


class _SilentError(Exception):
    """The host cannot be reached, or stopped in the middle."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Downloads:
    """The folder of what has been fetched, and the limits of fetching.

    Attributes:
        folder: Where the files are kept.
        hosts: Names of hosts that may be asked; ``*`` for every host.
        max_mib: Largest file, MiB.
        stall_seconds: Longest time without a byte.
        total_seconds: Longest time for a file.
    """

    folder: Path
    hosts: tuple[str, ...] = ()
    max_mib: float = 64
    stall_seconds: float = 20.0
    total_seconds: float = 300.0
    # Times in a row that a host did not answer, in this process.
    _silent: dict[str, int] = field(default_factory=dict, init=False, repr=False, compare=False)

    def fetch(self, address: str) -> Path:
        """The file of an address; asked for where it is not there yet.

        Args:
            address: With ``http://`` or ``https://``.

        Raises:
            FetchError: The host is not allowed or does not answer, or the answer is no media file
                or too large.
            RunError: The folder cannot be written.
        """
        host = allowed_host(address, self.hosts)
        path = self.path(address)
        if path.is_file():
            return path
        if self._silent.get(host, 0) >= _MOST_SILENT:
            raise FetchError(
                f"{host} did not answer {_MOST_SILENT} times, and was not asked again.",
                "Start again when it answers: what has been fetched is kept.",
            )
        try:
            with self._answer(address) as answer, atomic_file(path) as beside:
                self._write(answer, beside)
        except FetchError:
            self._silent.pop(host, None)
            raise
        except _SilentError as error:
            self._silent[host] = self._silent.get(host, 0) + 1
            raise FetchError(
                f"it cannot be fetched: {error}.",
                "Start again to try again: what has been fetched is kept.",
            ) from error
        self._silent.pop(host, None)
        return path

    def path(self, address: str) -> Path:
        """Where the file of an address is kept, named by a digest of the address."""
        whole = address.partition("#")[0]
        suffix = PurePosixPath(urlsplit(whole).path).suffix.lower()
        digest = blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()
        return self.folder.absolute() / (digest + (suffix if _SUFFIX.fullmatch(suffix) else ""))

    def _answer(self, address: str) -> Any:
        opener = urllib.request.build_opener(_Redirects(self.hosts))
        whole = quote(address.partition("#")[0], safe=_UNQUOTED)
        request = urllib.request.Request(whole, headers={"User-Agent": f"sightline/{__version__}"})
        try:
            return opener.open(request, timeout=self.stall_seconds)
        except urllib.error.HTTPError as error:
            error.close()
            # One line: where redirects go round, urllib tells a story.
            reason = " ".join(str(error.reason).split()).rstrip(".")
            raise FetchError(
                f"the server answers {error.code} {reason}.",
                "Mend the address, or leave the sample out.",
            ) from error
        except _NETWORK as error:
            raise _SilentError(_reason(error)) from error

    def _write(self, answer: Any, path: Path) -> None:
        """Write the answer, within the limits, if it may be a media file."""
        most = int(self.max_mib * _MEBIBYTE)
        stated = answer.headers.get("Content-Length", "")
        if stated.isdigit() and int(stated) > most:
            raise self._too_large(f"has {int(stated)} bytes")
        deadline = time.monotonic() + self.total_seconds
        num_bytes = 0
        with path.open("xb") as file:
            while piece := _piece(answer):
                if num_bytes == 0 and _is_page(piece):
                    raise FetchError(
                        "the server answers with a page and not with a media file.",
                        "Mend the address, or leave the sample out.",
                    )
                num_bytes += len(piece)
                if num_bytes > most:
                    raise self._too_large(f"has more than {most} bytes")
                if time.monotonic() > deadline:
                    raise FetchError(
                        f"{num_bytes} bytes came in {self.total_seconds:g} seconds.",
                        "Save it as a file and name that.",
                    )
                file.write(piece)
        if num_bytes == 0 or (stated.isdigit() and num_bytes < int(stated)):
            raise FetchError(
                f"the answer ends after {num_bytes} of {stated or 'an unknown number of'} bytes.",
                "Start again to try again, or leave the sample out.",
            )

    def _too_large(self, what: str) -> FetchError:
        most = int(self.max_mib * _MEBIBYTE)
        return FetchError(
            f"the file {what}; data.max_download_mib is {self.max_mib:g}, {most} bytes.",
            "Raise data.max_download_mib, or save it as a file and name that.",
        )


def allowed_host(address: str, hosts: Collection[str]) -> str:
    """The host of an address that may be asked.

    Args:
        address: With ``http://`` or ``https://``.
        hosts: Names of hosts; ``*`` for every host.

    Raises:
        FetchError: It is no such address, or its host is not named.
    """
    try:
        parts = urlsplit(address)
        found = _PLACE.fullmatch(parts.netloc.lower())
    except ValueError:
        found, parts = None, None
    if parts is None or found is None or parts.scheme not in ("http", "https"):
        raise FetchError(
            "it is not http:// or https:// with the name of a host.",
            "Mend the address, or leave the sample out.",
            "media.address",
        )
    host = found["host"].strip("[]")
    if EVERY_HOST not in hosts and host not in (name.lower() for name in hosts):
        raise FetchError(
            f"the host {host} is not named in url_hosts, so it is not asked.",
            f"Add url_hosts: [{_as_yaml(host)}] beside the data file's path, or save the file and "
            "name that.",
            "media.address",
        )
    return host


def _piece(answer: Any) -> bytes:
    """What has come; a whole chunk could take as long as the server likes."""
    try:
        return answer.read1(_CHUNK_NUM_BYTES)
    except _NETWORK as error:
        # Not as it is: whoever writes a file takes an OSError for one of the disk.
        raise _SilentError(_reason(error)) from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Redirects lead only to hosts that are allowed."""

    def __init__(self, hosts: Collection[str]) -> None:
        self._hosts = hosts

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        try:
            allowed_host(newurl, self._hosts)
        except FetchError as error:
            fp.close()
            raise FetchError(
                f"it redirects to {shown_address(newurl)[:200]!r}: {error.what}",
                error.fix,
                error.code,
            ) from error
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _is_page(beginning: bytes) -> bool:
    """Whether an answer begins as HTML or XML: no picture or video does."""
    return beginning.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<")


def _reason(error: Exception) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return str(reason) or type(reason).__name__


def _as_yaml(host: str) -> str:
    """A host as it is written in a list of YAML."""
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return host
    return f'"{host}"'
