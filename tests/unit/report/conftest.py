"""Fake run directories, and a reader of the pages that are made of them."""

from __future__ import annotations

import importlib.util
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest

_VOID = {"meta", "img", "link", "br", "hr", "input"}


def _load(name: str) -> ModuleType:
    """A module beside this file: tests are no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def maker() -> ModuleType:
    """The generator of run directories."""
    return _load("make_run")


@pytest.fixture(scope="session")
def whole_maker() -> ModuleType:
    """The generator of run directories that hold everything a page can show."""
    return _load("make_whole_run")


@pytest.fixture(scope="session")
def in_browser() -> ModuleType:
    """Looks at a page in a browser."""
    return _load("in_browser")


class Page(HTMLParser):
    """What a page says: its words, its tags, and whether every tag is closed in order.

    Its scripts are apart: those that run, and the blocks of data that they read.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.faults: list[str] = []
        self.scripts: list[str] = []
        self.blocks: list[str] = []
        self._open: list[str] = []
        self._words: list[str] = []
        self._into = self.scripts
        self.feed(html)
        self.close()
        self.faults += [f"<{tag}> is never closed" for tag in self._open]

    @property
    def text(self) -> str:
        """The words of the page with single spaces."""
        return " ".join(" ".join(self._words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for key, value in attrs if key in ("src", "href")]
        self.ids += [value or "" for key, value in attrs if key == "id"]
        if tag == "script":
            self._into = (
                self.blocks if dict(attrs).get("type") == "application/json" else self.scripts
            )
            self._into.append("")
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1] != tag:
            self.faults.append(f"</{tag}> closes {self._open[-1:]}")
        else:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if "script" in self._open:
            self._into[-1] += data
        elif "style" not in self._open:
            self._words.append(data)


@pytest.fixture
def read_page() -> type[Page]:
    """The reader of pages."""
    return Page
