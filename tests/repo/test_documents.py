"""What the documents say of the repository is so."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

LINK = re.compile(r"(?<!\\)\[[^\]]*\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```", flags=re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| `([\w/]+\.py)` \|", flags=re.MULTILINE)
DECISION = re.compile(r"^(\d{4})-[a-z0-9]+(?:-[a-z0-9]+)*\.md$")
PHONY = re.compile(r"^([a-z][a-z-]*):.*## ", flags=re.MULTILINE)
DECISION_PARTS = ["## What was to be decided", "## Decision", "## Why", "## What it costs"]


def _documents(root: Path) -> list[Path]:
    return sorted([*root.glob("*.md"), *(root / "docs").rglob("*.md")])


def _row(root: Path, module: str) -> str:
    """The line of a module as its docstring begins."""
    tree = ast.parse((root / "src" / "sightline" / module).read_text("utf-8"))
    summary = (ast.get_docstring(tree) or "").split("\n")[0].replace("``", "`")
    return f"| `{module}` | {summary} |"


def test_the_module_table_is_the_package(root: Path, modules: list[Path]) -> None:
    """docs table = modules: one line a module, none too many, in order."""
    text = (root / "docs" / "architecture.md").read_text("utf-8")
    # A package's __init__ only names what it holds; __main__ only calls the command line.
    expected = [str(m.as_posix()) for m in modules if not m.name.startswith("__")]
    listed = ROW.findall(text)
    missing = [_row(root, name) for name in sorted(set(expected) - set(listed))]
    assert missing == [], "add to docs/architecture.md:\n" + "\n".join(missing)
    assert sorted(set(listed) - set(expected)) == [], "in docs/architecture.md, but not there"
    assert len(listed) == len(set(listed)), "listed twice"


def test_links_lead_somewhere(root: Path) -> None:
    dead = []
    for document in _documents(root):
        for target in LINK.findall(FENCED.sub("", document.read_text("utf-8"))):
            path = target.split("#")[0]
            if "://" in target or target.startswith("mailto:") or not path:
                continue
            if not (document.parent / path).exists():
                dead.append(f"{document.relative_to(root)}: {target}")
    assert dead == []


def _anchors(text: str) -> set[str]:
    """What a link may name after ``#``: headings, as GitHub writes them."""
    headings = re.findall(r"^#{1,6} (.+)$", FENCED.sub("", text), flags=re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in plain}


def test_links_lead_to_headings_that_are_there(root: Path) -> None:
    assert _anchors("# A `b`, c: [d](e.md)!\n") == {"a-b-c-d"}
    dead = []
    for document in _documents(root):
        for target in LINK.findall(FENCED.sub("", document.read_text("utf-8"))):
            path, _, anchor = target.partition("#")
            page = document if not path else document.parent / path
            if "://" in target or not anchor or page.suffix != ".md" or not page.is_file():
                continue
            if anchor not in _anchors(page.read_text("utf-8")):
                dead.append(f"{document.relative_to(root)}: {target}")
    assert dead == []


def test_files_of_the_repository_that_are_named_are_there(root: Path) -> None:
    named = re.compile(r"`((?:tests|benchmarks|examples)/[\w/]+\.\w+)(?:::\w+)?`")
    missing = [
        f"{document.relative_to(root)}: {name}"
        for document in _documents(root)
        for name in named.findall(document.read_text("utf-8"))
        if not (root / name).exists()
    ]
    assert missing == []


def test_figures_beside_other_tools_are_measured(root: Path) -> None:
    """Every cell with a figure stands in the results, in both READMEs."""
    results = (root / "benchmarks" / "RESULTS.md").read_text("utf-8")
    for name in ("README.md", "README.zh.md"):
        table = re.search(r"^\| \| Sightline \|.*\n(?:\|.*\n)+", (root / name).read_text(), re.M)
        assert table is not None
        cells = [row.split("|")[2:-1] for row in table[0].splitlines()[2:]]
        figures = re.findall(r"\d+\.\d+", " ".join(cell for row in cells for cell in row))
        assert len(figures) > 15
        measured = set(re.findall(r"(?<![\d.])\d+\.\d+(?![\d.])", results))
        assert [figure for figure in figures if figure not in measured] == []


def test_decisions_are_numbered_and_whole(root: Path) -> None:
    names = sorted(path.name for path in (root / "docs" / "decisions").iterdir())
    numbers = [int(match[1]) if (match := DECISION.match(name)) else name for name in names]
    assert numbers == list(range(1, len(names) + 1))
    for number, name in zip(numbers, names, strict=True):
        text = (root / "docs" / "decisions" / name).read_text("utf-8")
        assert re.match(rf"# {number}\. \S", text), name
        assert [part for part in DECISION_PARTS if part not in text] == [], name


def test_make_targets_are_the_documented_ones(root: Path) -> None:
    targets = set(PHONY.findall((root / "Makefile").read_text("utf-8")))
    contributing = (root / "CONTRIBUTING.md").read_text("utf-8")
    documented = set(re.findall(r"^\| `make ([a-z-]+)` \|", contributing, flags=re.MULTILINE))
    assert documented == targets


def test_ci_runs_the_three_commands_in_order(root: Path) -> None:
    script = (root / ".ci" / "run").read_text("utf-8")
    assert re.findall(r"^run (.+)$", script, flags=re.MULTILINE) == [
        "make check",
        "make test",
        "make demo",
    ]
    assert (root / ".ci" / "run").stat().st_mode & 0o111, ".ci/run cannot be executed"


def test_the_configuration_page_is_what_the_command_says(root: Path) -> None:
    command = [sys.executable, "-m", "sightline", "config", "--explain"]
    said = subprocess.run(command, capture_output=True, text=True, check=False, encoding="utf-8")
    assert said.returncode == 0, said.stderr
    page = (root / "docs" / "configuration.md").read_text("utf-8")
    fenced = re.search(r"^```text\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    assert fenced is not None
    assert fenced[1] == said.stdout, "run: make docs"
