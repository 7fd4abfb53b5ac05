"""What the tests of the repository look at: its files, and the modules of the package."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def modules() -> list[Path]:
    """Every Python file of the package, relative to ``src/sightline``."""
    package = ROOT / "src" / "sightline"
    return sorted(path.relative_to(package) for path in package.rglob("*.py"))


@pytest.fixture(scope="session")
def tracked() -> list[Path]:
    """Files that git tracks or would track, relative to the checkout."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed: which files are tracked is not known")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0 or not listed.stdout:
        pytest.skip(f"not a git checkout, so no file is tracked: {listed.stderr.strip()}")
    paths = {Path(name) for name in listed.stdout.split("\0") if name}
    return sorted(path for path in paths if (ROOT / path).is_file())
