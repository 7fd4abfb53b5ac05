"""Every danger of docs/security.md names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path


def test_every_row_names_tests_that_are_there(root: Path) -> None:
    page = (root / "docs" / "security.md").read_text("utf-8")
    rows = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 12
    for danger, here, shown in rows:
        assert danger.strip()
        assert here.strip()
        named = re.findall(r"`([^`]+\.py)`", shown)
        assert named, danger
        assert [name for name in named if not (root / "tests" / name).is_file()] == []


def test_the_image_is_made_of_what_is_there(root: Path) -> None:
    """It cannot be built here: what it copies, installs and starts is compared with the package."""
    text = (root / "Containerfile").read_text("utf-8")
    copied = [
        name for line in re.findall(r"^COPY (.*) \./?\S*$", text, re.M) for name in line.split()
    ]
    assert set(copied) == {"pyproject.toml", "requirements.txt", "README.md", "LICENSE", "src"}
    assert all((root / name).exists() for name in copied)
    let_in = (root / ".dockerignore").read_text("utf-8").splitlines()
    assert {line[1:] for line in let_in if line.startswith("!")} == set(copied)
    project = (root / "pyproject.toml").read_text("utf-8")
    [extras] = re.findall(r'"\.\[(.*)\]"', text)
    assert all(re.search(rf"^{extra} = \[", project, re.M) for extra in extras.split(","))
    [script] = re.findall(r'^ENTRYPOINT \["(.*)"\]$', text, re.M)
    assert f'\n{script} = "sightline.cli.main:main"' in project
