"""docs/failure-modes.md: every failure stands once, and what it names is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest

from sightline.config import key_names

IDS = [
    *(str(number) for number in range(1, 37)),
    *(f"A{number}" for number in range(1, 13)),
    *(f"D{number:02}" for number in range(1, 30)),
]
OUTCOMES = {
    "prevented",
    "refused",
    "found before",
    "found during",
    "found after",
    "out of reach",
}
HEADER = "| id | what goes wrong | in Sightline | where | test |"
CODE = re.compile(r"`([^`]+)`")
# Lines of the certificate and alarms have an id, kinds of bad samples a code.
NAMED = re.compile(r'\b(?:id|code)="([a-z_]+\.[a-z_]+)"')


class Row(NamedTuple):
    """A row of a table of failures."""

    id: str
    what: str
    outcomes: list[str]
    where: list[str]
    tests: list[str]


def rows_of(page: str) -> list[Row]:
    """The rows of all tables of failures of a page."""
    rows, inside = [], False
    for line in page.splitlines():
        inside = line == HEADER or (inside and line.startswith("|"))
        if not inside or line == HEADER or set(line) <= set("|-"):
            continue
        cells = [cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")]
        assert len(cells) == 5, f"not five cells: {line}"
        id, what, outcomes, where, tests = cells
        told = [outcome.strip() for outcome in outcomes.split(",")]
        rows.append(Row(id, what, told, CODE.findall(where), CODE.findall(tests)))
    return rows


def functions_of(file: Path) -> set[str]:
    """Names of the functions that a module defines, read without importing it."""
    tree = ast.parse(file.read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def faults_of(rows: Iterable[Row], root: Path, names: set[str]) -> list[str]:
    """What is wrong with rows: a word that is no outcome, or a place or test that is not there.

    Args:
        rows: The rows.
        root: The checkout.
        names: Lines of the certificate, alarms, kinds of bad samples and keys that there are.
    """
    faults = []
    for row in rows:
        faults += [
            f"{row.id}: {word!r} is no outcome" for word in row.outcomes if word not in OUTCOMES
        ]
        if not row.what:
            faults.append(f"{row.id}: says not what goes wrong")
        if row.outcomes != ["out of reach"]:
            faults += [f"{row.id}: no {what}" for what, named in _needed(row) if not named]
        faults += [
            f"{row.id}: {place} is not there"
            for place in row.where
            if not _is_there(place, root, names)
        ]
        for test in row.tests:
            file, _, function = test.partition("::")
            path = root / "tests" / file
            if not path.is_file():
                faults.append(f"{row.id}: tests/{file} is not there")
            elif not function.startswith("test_") or function not in functions_of(path):
                faults.append(f"{row.id}: tests/{file} has no {function or 'test'}")
    return faults


def _needed(row: Row) -> tuple[tuple[str, list[str]], ...]:
    return (("place", row.where), ("test", row.tests))


def _is_there(place: str, root: Path, names: set[str]) -> bool:
    if place in names:
        return True
    path = root / "src" / "sightline" / place
    return "/" in place and (path.is_file() or path.is_dir())


@pytest.fixture(scope="session")
def names(root: Path, modules: list[Path]) -> set[str]:
    """What a row may name beside modules."""
    found = set(key_names())
    for module in modules:
        found |= set(NAMED.findall((root / "src" / "sightline" / module).read_text("utf-8")))
    return found


@pytest.fixture(scope="session")
def rows(root: Path) -> list[Row]:
    """The rows of the page."""
    return rows_of((root / "docs" / "failure-modes.md").read_text("utf-8"))


def test_every_failure_stands_exactly_once(rows: list[Row]) -> None:
    listed = [row.id for row in rows]
    assert sorted(listed) == sorted(IDS)
    assert len(IDS) == 36 + 12 + 29


def test_what_a_row_names_is_there(rows: list[Row], root: Path, names: set[str]) -> None:
    assert faults_of(rows, root, names) == []


def test_what_is_out_of_reach_is_explained(root: Path, rows: list[Row]) -> None:
    page = (root / "docs" / "failure-modes.md").read_text("utf-8")
    explained = set(re.findall(r"\*\*(\w+)\*\*", page.partition("\n## What is out of reach")[2]))
    assert {row.id for row in rows if "out of reach" in row.outcomes} <= explained


GOOD = (
    "| 7 | something | prevented, found after | `model/export.py`, `tokens.labels` | "
    "`repo/test_code.py::test_modules_are_short` |"
)


@pytest.mark.parametrize(
    ("sound", "planted", "fault"),
    [
        ("prevented", "avoided", "7: 'avoided' is no outcome"),
        ("something", "", "7: says not what goes wrong"),
        ("model/export.py", "model/exports.py", "7: model/exports.py is not there"),
        ("tokens.labels", "tokens.label", "7: tokens.label is not there"),
        ("`model/export.py`, `tokens.labels`", "the exporter", "7: no place"),
        ("`repo/test_code.py::test_modules_are_short`", "", "7: no test"),
        ("repo/test_code", "repo/test_codes", "7: tests/repo/test_codes.py is not there"),
        (
            "test_modules_are_short",
            "test_modules",
            "7: tests/repo/test_code.py has no test_modules",
        ),
        ("test_modules_are_short", "_room", "7: tests/repo/test_code.py has no _room"),
        ("::test_modules_are_short", "", "7: tests/repo/test_code.py has no test"),
    ],
)
def test_a_row_that_is_wrong_is_seen(
    sound: str, planted: str, fault: str, root: Path, names: set[str]
) -> None:
    page = f"{HEADER}\n|---|---|---|---|---|\n{{}}\n\n| 8 | of another table |\n"
    assert faults_of(rows_of(page.format(GOOD)), root, names) == []
    assert sound in GOOD
    wrong = rows_of(page.format(GOOD.replace(sound, planted)))
    assert [row.id for row in wrong] == ["7"]
    assert faults_of(wrong, root, names) == [fault]


def test_a_row_of_too_few_cells_is_seen() -> None:
    with pytest.raises(AssertionError, match="not five cells"):
        rows_of(f"{HEADER}\n|---|---|---|---|---|\n| 7 | something | prevented |\n")
