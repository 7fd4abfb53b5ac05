"""The pages for who comes from another tool: words of theirs that are read, keys of ours."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sightline.config import key_names

HEADER = "| there | here | what to know |"
CODE = re.compile(r"`([^`]+)`")
PAGES = {
    "from-llamafactory.md": "llamafactory",
    "from-swift.md": "swift",
    "from-qwen-scripts.md": "official",
    "from-trainer.md": None,
}
# Words of theirs that are no key of a configuration file.
OTHER_WORDS = {"llamafactory-cli export", "swift export", "messages", "objects", "loss"}


def rows_of(page: str) -> list[list[str]]:
    """Cells of the table of words, row by row."""
    table = page.partition(HEADER)[2].partition("\n\n")[0]
    return [row.strip("|").split(" | ") for row in table.strip().splitlines()[1:]]


def unread(rows: list[list[str]], source: str) -> list[str]:
    """Words of theirs that the importers do not know."""
    named = {word for row in rows for word in CODE.findall(row[0])} - OTHER_WORDS
    return sorted(word for word in named if not re.search(rf"\b{re.escape(word)}\b", source))


def unknown(rows: list[list[str]]) -> list[str]:
    """Keys of ours that are not there."""
    named = {word for row in rows for word in CODE.findall(row[1])}
    keys = {word for word in named if re.fullmatch(r"[a-z_]+(\.[a-z_]+)*", word)}
    return sorted(keys - set(key_names()) - {"model"})


@pytest.mark.parametrize("name", PAGES)
def test_keys_of_ours_are_there(root: Path, name: str) -> None:
    rows = rows_of((root / "docs" / name).read_text("utf-8"))
    assert len(rows) > 12
    ours = [row for row in rows if "sightline." not in row[1]]
    assert unknown(ours) == []


@pytest.mark.parametrize("name", [name for name, tool in PAGES.items() if tool])
def test_words_of_theirs_are_read_by_the_importer(root: Path, name: str) -> None:
    """By this tool's modules, or by those that all tools share."""
    tool = PAGES[name]
    others = {tool_of for tool_of in PAGES.values() if tool_of not in (tool, None)}
    modules = [
        module
        for module in (root / "src" / "sightline" / "interop").glob("*.py")
        if not any(module.name.startswith(str(other)) for other in others)
    ]
    source = "\n".join(module.read_text("utf-8") for module in modules)
    # MIN and MAX of a limit are one line of the importers.
    source = "".join(source.replace("{word}", word) for word in ("MAX", "MIN", "max", "min"))
    assert unread(rows_of((root / "docs" / name).read_text("utf-8")), source) == []


def test_a_word_that_nobody_knows_is_seen() -> None:
    row = "| `cutoff_len`, `cut_off` | `data.fit`, `data.fits` | |"
    rows = rows_of(f"# A\n\n{HEADER}\n|---|---|---|\n{row}\n\nB")
    assert unread(rows, '"cutoff_len"') == ["cut_off"]
    assert unknown(rows) == ["data.fits"]
