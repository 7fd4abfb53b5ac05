"""What other programs may build on is listed, documented, and does what the page says."""

from __future__ import annotations

import ast
import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sightline

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "api.md"


def test_the_examples_of_the_page(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    [drawn] = re.findall(r"`sightline (shapes [^`]*)`", text)
    assert command(*drawn.split()).code == 0
    [config] = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    Path("run.yaml").write_text(config, encoding="utf-8")
    fences = text.replace("```", "")
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner()
    found = parser.get_doctest(fences, {}, PAGE.name, str(PAGE), 0)
    assert len(found.examples) >= 30
    failed: list[str] = []
    runner.run(found, out=failed.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(failed)


@pytest.mark.parametrize("name", [name for name in sightline.__all__ if name != "__version__"])
def test_every_public_name_is_there_documented_and_used_on_the_page(name: str) -> None:
    found = getattr(sightline, name)
    assert found.__name__ == name
    assert found.__doc__
    text = PAGE.read_text(encoding="utf-8")
    assert f"`{name}`" in text
    examples = doctest.DocTestParser().get_examples(text.replace("```", ""))
    assert any(f"sightline.{name}" in example.source for example in examples) or name == "RunConfig"


def test_type_checkers_are_told_the_same_names() -> None:
    declared = ast.parse((ROOT / "src/sightline/__init__.pyi").read_text("utf-8"))
    told = {
        alias.asname: f"{node.module}"
        for node in declared.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert {"__version__", *told} == set(sightline.__all__)
    assert told == {name: f"sightline.{home}" for name, home in sightline._HOMES.items()}


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'tarin'"):
        _ = sightline.tarin  # type: ignore[attr-defined]
    assert "train" in dir(sightline)


def test_importing_the_package_loads_nothing() -> None:
    code = (
        "import sys, sightline; "
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'pydantic', 'numpy')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"
