"""The examples in docstrings give what they say."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"


def _modules() -> list[str]:
    """Names of the modules with an example."""
    paths = sorted(SOURCE.rglob("*.py"))
    told = [path for path in paths if ">>> " in path.read_text(encoding="utf-8")]
    names = [path.relative_to(SOURCE).with_suffix("").as_posix() for path in told]
    return [name.removesuffix("/__init__").replace("/", ".") for name in names]


MODULES = _modules()


def test_the_modules_were_found() -> None:
    assert len(MODULES) > 50


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module(name: str) -> None:
    said: list[str] = []
    runner = doctest.DocTestRunner(verbose=False)
    for example in doctest.DocTestFinder(exclude_empty=True).find(import_module(name)):
        runner.run(example, out=said.append)
    assert runner.tries > 0, "the examples are in no docstring that doctest finds"
    assert not said, "".join(said)
