"""What must not stand in any file of the repository.

The patterns are written so that this file does not match them itself.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

MAX_BYTES = 2_000_000
WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".pkl", ".pickle", ".npz"}
LOCKS = {"uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "package-lock.json"}

REGISTRY_HOST = re.compile(
    r"py[p]i\.org|python[h]osted\.org|registry\.[n]pmjs|download\.[p]ytorch\.org"
    r"|[a]naconda\.org|/[s]imple/|(?<!emit-)--(?:extra-)?[i]ndex-url|--[f]ind-links"
)
MACHINE_PATH = re.compile(r"(?<![\w.$~)}*])/(?:root|work|opt|home|Users|mnt|srv)/[\w.]|file:/[/]/")
UNFINISHED = re.compile(r"\b(?:TO[D]O|FIX[M]E|XX[X]|HA[C]K|Not[I]mplementedError)\b")


def _hits(root: Path, tracked: list[Path], pattern: re.Pattern[str]) -> list[str]:
    found = []
    for path in tracked:
        try:
            text = (root / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture, not text
        for number, line in enumerate(text.splitlines(), start=1):
            if match := pattern.search(line):
                found.append(f"{path}:{number}: {match[0]}")
    return found


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        (REGISTRY_HOST, "https://" + "pypi" + ".org/project/torch"),
        (REGISTRY_HOST, "--" + "index-url https://example.com"),
        (MACHINE_PATH, 'DATA = "/' + 'home/somebody/data"'),
        (MACHINE_PATH, "/" + "root/.cache"),
        (UNFINISHED, "# TO" + "DO: later"),
        (UNFINISHED, "raise Not" + "ImplementedError"),
    ],
)
def test_the_patterns_find_what_they_are_for(pattern: re.Pattern[str], line: str) -> None:
    assert pattern.search(line)


def test_no_registry_is_named(root: Path, tracked: list[Path]) -> None:
    assert _hits(root, tracked, REGISTRY_HOST) == []


def test_no_path_of_one_machine(root: Path, tracked: list[Path]) -> None:
    assert _hits(root, tracked, MACHINE_PATH) == []


def test_nothing_is_left_unfinished(root: Path, tracked: list[Path]) -> None:
    assert _hits(root, tracked, UNFINISHED) == []


def test_no_weights_no_locks_no_large_files(root: Path, tracked: list[Path]) -> None:
    unwanted = [
        str(path)
        for path in tracked
        if path.suffix in WEIGHTS or path.name in LOCKS or (root / path).stat().st_size > MAX_BYTES
    ]
    assert unwanted == []


def test_what_is_generated_is_not_tracked(tracked: list[Path]) -> None:
    generated = {".venv", ".venv-lowest", ".venv-extras", "runs", "__pycache__", "dist", "build"}
    assert [str(path) for path in tracked if generated & set(path.parts[:-1])] == []
