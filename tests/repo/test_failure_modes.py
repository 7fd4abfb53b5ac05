"""Failure modes and symptoms in docs: every failure stands once, and what is named is there.

A symptom is a heading of the third level. It ends with the failures that it may come from and the
tests that show it.
"""

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
IN_CHINESE = {
    "不会发生": "prevented",
    "拒绝": "refused",
    "事前发现": "found before",
    "训练中发现": "found during",
    "事后发现": "found after",
    "看不到": "out of reach",
}
HEADER = "| id | what goes wrong | in Sightline | where | test |"
CODE = re.compile(r"`([^`]+)`")
SYMPTOMS = ["docs/symptoms.md", "docs/zh/symptoms.md"]
SOURCES = re.compile(
    r"^(?:Rows: |对应：)([^.。]+)(?:\. |。)(?:Tests: |测试：)(.+)[.。]$", flags=re.MULTILINE
)
# What the five questions were asked about, in the words of who asked them.
FOUNDING = [
    "the loss is near zero, and the boxes are wrong",
    "the loss stays at 2 to 3",
    "the projector does not train",
    "everything is on 1-d positions",
    "image features and image tokens do not match",
    "shape mismatch: value tensor of shape",
]
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
        faults += [f"{row.id}: {fault}" for fault in missing_tests(row.tests, root)]
    return faults


def missing_tests(tests: Iterable[str], root: Path) -> list[str]:
    """What is wrong with ``file::function`` of tests."""
    faults = []
    for test in tests:
        file, _, function = test.partition("::")
        path = root / "tests" / file
        if not path.is_file():
            faults.append(f"tests/{file} is not there")
        elif not function.startswith("test_") or function not in functions_of(path):
            faults.append(f"tests/{file} has no {function or 'test'}")
    return faults


def symptoms_of(page: str) -> dict[str, str]:
    """The entries of a page of symptoms: what is under each heading of the third level."""
    parts = re.split(r"^#{2,3} (.+)\n", page, flags=re.MULTILINE)[1:]
    entries = dict(zip(parts[::2], parts[1::2], strict=True))
    return {heading: text for heading, text in entries.items() if "**" in text}


def faults_of_symptoms(page: str, root: Path, rows: Iterable[Row]) -> list[str]:
    """Symptoms that name no failure or no test, or other than there is.

    Args:
        page: The page, in either language.
        root: The checkout.
        rows: The failures that there are.
    """
    known = {row.id: row.outcomes for row in rows}
    faults = []
    for heading, text in symptoms_of(page).items():
        found = SOURCES.findall(text)
        if len(found) != 1:
            faults.append(f"{heading}: {len(found)} lines of rows and tests")
            continue
        named = failures_of(found[0][0])
        if not named:
            faults.append(f"{heading}: no failure")
        for id, outcomes in named:
            if known.get(id) != outcomes:
                faults.append(f"{heading}: {id} is {known.get(id)}, not {outcomes}")
        tests = CODE.findall(found[0][1])
        faults += [f"{heading}: {fault}" for fault in missing_tests(tests, root)]
        if not tests:
            faults.append(f"{heading}: no test")
    return faults


def failures_of(rows: str) -> list[tuple[str, list[str]]]:
    """Failures that a symptom names, each with what becomes of it, in the English words."""
    plain = rows.replace("（", " (").replace("）", ")")
    named = re.findall(r"(\w+) \(([^)]+)\)", plain)
    return [
        (id, [IN_CHINESE.get(word, word) for word in re.split(r", |、", outcomes)])
        for id, outcomes in named
    ]


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


@pytest.mark.parametrize("name", SYMPTOMS)
def test_symptoms_name_failures_and_tests_that_are_there(
    root: Path, rows: list[Row], name: str
) -> None:
    page = (root / name).read_text("utf-8")
    assert len(symptoms_of(page)) > 25
    assert faults_of_symptoms(page, root, rows) == []


def test_both_pages_of_symptoms_name_the_same(root: Path) -> None:
    english, chinese = (SOURCES.findall((root / name).read_text("utf-8")) for name in SYMPTOMS)
    assert [CODE.findall(tests) for _, tests in chinese] == [
        CODE.findall(tests) for _, tests in english
    ]
    assert [failures_of(rows) for rows, _ in chinese] == [failures_of(rows) for rows, _ in english]


def test_the_five_questions_can_be_found(root: Path) -> None:
    page = (root / "docs" / "symptoms.md").read_text("utf-8")
    headings = "\n".join(symptoms_of(page)).lower()
    assert [text for text in FOUNDING if text not in headings] == []


@pytest.mark.parametrize(
    ("sound", "planted", "fault"),
    [
        ("7 (", "99 (", "seen: 99 is None"),
        ("refused", "prevented", "seen: 7 is ['refused', 'found after'], not ['prevented'"),
        ("7 (refused, found after)", "7", "seen: no failure"),
        ("::test_modules_are_short", "::test_modules", "tests/repo/test_code.py has no"),
        ("`repo/test_code.py::test_modules_are_short`", "none", "seen: no test"),
        ("Rows: ", "", "seen: 0 lines of rows and tests"),
    ],
)
def test_a_symptom_that_is_wrong_is_seen(sound: str, planted: str, fault: str, root: Path) -> None:
    rows = [Row("7", "something", ["refused", "found after"], [], [])]
    good = (
        "# A\n\n## B\n\n### seen\n\n**Why.** So.\n\nRows: 7 (refused, found after). "
        "Tests: `repo/test_code.py::test_modules_are_short`.\n"
    )
    assert faults_of_symptoms(good, root, rows) == []
    assert sound in good
    [said] = faults_of_symptoms(good.replace(sound, planted), root, rows)
    assert fault in said


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
