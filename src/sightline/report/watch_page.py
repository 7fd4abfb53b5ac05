"""The live page of a run: a frame that never changes, which its script fills."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from sightline.report.html import render_template
from sightline.report.page import run_html
from sightline.report.run import load_run

_HTML = "text/html; charset=utf-8"
_SCRIPT = "text/javascript; charset=utf-8"


def _page(name: str) -> bytes:
    return render_template("watch.html.j2", {"name": name}).encode()


def _style(name: str) -> bytes:
    return render_template("watch.css.j2", {}).encode()


def _script(file: str) -> Callable[[str], bytes]:
    return lambda name: (files("sightline.report") / "templates" / file).read_bytes()


PAGE_FILES: dict[str, tuple[str, Callable[[str], bytes]]] = {
    "/": (_HTML, _page),
    "/style.css": ("text/css; charset=utf-8", _style),
    "/page.js": (_SCRIPT, _script("page.js")),
    "/charts.js": (_SCRIPT, _script("charts.js")),
    "/watch.js": (_SCRIPT, _script("watch.js")),
}
"""What can be asked for besides state and report: its kind, and its content for a run's name."""


def report_now(directory: Path) -> bytes:
    """The report of a run as its records stand; nothing is written.

    Raises:
        RunError: There is no run yet, or one of its files is broken.
    """
    return run_html(load_run(directory)).encode()
