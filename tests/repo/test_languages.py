"""English pages and their Chinese ones say the same, as far as a program can see.

A pair has the same commands in the same order, the same headings by level, equal blocks of code but
for their comments, tables with as many rows, and the same names in code in every row.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FENCE = re.compile(r"^```(\w*)\n(.*?)^```\n", flags=re.MULTILINE | re.DOTALL)
CHINESE = re.compile(r"[\u3400-\u9fff]")
CODE = re.compile(r"``.+?``|`[^`]+`")
PAIRED = ["guide.md", "symptoms.md", "failure-modes.md", "README.md"]


def _pairs(root: Path) -> list[tuple[Path, Path]]:
    """English pages with their Chinese ones."""
    docs = root / "docs"
    pages = sorted((docs / "zh").glob("*.md"))
    return [
        (root / "README.md", root / "README.zh.md"),
        *((docs / page.name, page) for page in pages),
    ]


def _code(line: str) -> str:
    """A line of code without the comment behind it."""
    return re.split(r"\s+#\s", line)[0].rstrip()


def _levels(page: str) -> list[int]:
    return [len(marks) for marks in re.findall(r"^(#{1,6}) ", FENCE.sub("", page), re.MULTILINE)]


def _tables(page: str) -> list[list[str]]:
    """Rows of each table."""
    found = re.findall(r"(?:^\|.*\n)+", FENCE.sub("", page), flags=re.MULTILINE)
    return [table.splitlines() for table in found]


def differences(english: str, chinese: str) -> list[str]:
    """What of a page is not so on its other side."""
    found = []
    if _levels(english) != _levels(chinese):
        found.append(f"headings: {_levels(english)} and {_levels(chinese)}")
    blocks = [FENCE.findall(page) for page in (english, chinese)]
    if [name for name, _ in blocks[0]] != [name for name, _ in blocks[1]]:
        found.append(f"blocks of code: {len(blocks[0])} and {len(blocks[1])}")
    for (_, one), (_, other) in zip(*blocks, strict=False):
        lines = [[_code(line) for line in block.splitlines()] for block in (one, other)]
        if lines[0] != lines[1]:
            found.append(f"the code of {one.splitlines()[0]!r}")
    tables = [_tables(page) for page in (english, chinese)]
    if [len(table) for table in tables[0]] != [len(table) for table in tables[1]]:
        found.append(f"rows of tables: {[[len(t) for t in side] for side in tables]}")
        return found
    for one, other in zip(*tables, strict=True):
        for left, right in zip(one, other, strict=True):
            if sorted(CODE.findall(left)) != sorted(CODE.findall(right)):
                found.append(f"names in the row {left!r}")
            if left.count("|") != right.count("|"):
                found.append(f"cells of the row {left!r}")
    return found


def test_pages_and_their_translations_agree(root: Path) -> None:
    told = []
    for english, chinese in _pairs(root):
        assert english.is_file(), f"{chinese.relative_to(root)} has no English page"
        pages = [path.read_text("utf-8") for path in (english, chinese)]
        told += [f"{chinese.relative_to(root)}: {what}" for what in differences(*pages)]
    assert told == []


def test_what_people_look_for_first_is_there_in_chinese(root: Path) -> None:
    assert [name for name in PAIRED if not (root / "docs" / "zh" / name).is_file()] == []


def test_each_side_links_to_the_other_at_its_top(root: Path) -> None:
    for english, chinese in _pairs(root)[1:]:
        tops = [path.read_text("utf-8").split("\n")[2] for path in (english, chinese)]
        assert tops == [f"[中文](zh/{english.name})", f"[English](../{english.name})"], english.name


def test_a_chinese_page_is_chinese(root: Path) -> None:
    """No paragraph was left as it was."""
    for _, chinese in _pairs(root):
        paragraphs = FENCE.sub("", chinese.read_text("utf-8")).split("\n\n")
        prose = [text for text in paragraphs if not text.startswith(("|", "#", "[", "<", "Apache"))]
        assert [text for text in prose if text.strip() and not CHINESE.search(text)] == []


PAGE = """\
# A

Text.

## B

```console
$ one --two
```

```yaml
a: 1  # why
```

| x | y |
|---|---|
| `n` | what |
"""


@pytest.mark.parametrize(
    ("sound", "planted", "fault"),
    [
        ("## B", "### B", "headings"),
        ("## B\n", "", "headings"),
        ("--two", "--three", "the code of '$ one --two'"),
        ("```console", "```text", "blocks of code"),
        ("a: 1  # why", "a: 2  # 原因", "the code of 'a: 1  # why'"),
        ("| `n` | what |\n", "", "rows of tables"),
        ("`n`", "`m`", "names in the row"),
        ("| what |", "| 什么 | 多 |", "cells of the row"),
    ],
)
def test_a_page_that_fell_behind_is_seen(sound: str, planted: str, fault: str) -> None:
    translated = PAGE.replace("# why", "# 为什么").replace("what", "什么").replace("Text", "文字")
    assert differences(PAGE, translated) == []
    behind = PAGE.replace(sound, planted)
    assert behind != PAGE
    assert any(fault in said for said in differences(PAGE, behind)), differences(PAGE, behind)
