"""House rules of the code that a linter does not know."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sightline.families import FAMILIES

MAX_LINES = 400
NAMELESS = re.compile(r"^_?(utils?|commons?|misc|helpers?)$")
AUTO_CLASS = re.compile(r"^Auto[A-Z]\w*$")
FAMILY_NAMES = frozenset(FAMILIES)


def _trees(root: Path, modules: list[Path]) -> Iterator[tuple[Path, ast.Module]]:
    for module in modules:
        text = (root / "src" / "sightline" / module).read_text(encoding="utf-8")
        yield module, ast.parse(text, filename=str(module))


def _room(module: Path) -> str:
    return module.parts[0].removesuffix(".py")


def _says_model_type(node: ast.expr) -> bool:
    """Whether an expression is a ``model_type``, however it is reached."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.strip("_") == "model_type"
        case ast.Constant(value=value):
            return value in FAMILY_NAMES
        case ast.Subscript(slice=ast.Constant(value="model_type")):
            return True
        case ast.Call(func=function, args=arguments):
            if any(isinstance(a, ast.Constant) and a.value == "model_type" for a in arguments):
                return True
            return isinstance(function, ast.Attribute) and _says_model_type(function.value)
        case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Set(elts=parts):
            return any(_says_model_type(part) for part in parts)
    return False


def _is_model_type_branch(node: ast.AST) -> bool:
    match node:
        case ast.Compare(left=left, comparators=right, ops=operators):
            # `"model_type" in raw` asks whether a file has the field, not which family it is.
            presence = isinstance(operators[0], ast.In | ast.NotIn) and isinstance(
                left, ast.Constant
            )
            return not presence and any(_says_model_type(side) for side in (left, *right))
        case ast.Call(func=ast.Attribute(value=value, attr="startswith" | "endswith")):
            return _says_model_type(value)
        case ast.Match(subject=subject, cases=cases):
            patterns = [part for case in cases for part in ast.walk(case.pattern)]
            named = any(
                isinstance(part, ast.MatchValue) and _says_model_type(part.value)
                for part in patterns
            )
            return named or _says_model_type(subject)
    return False


def _model_type_branches(tree: ast.Module) -> list[int]:
    return [node.lineno for node in ast.walk(tree) if _is_model_type_branch(node)]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "branch",
    [
        'config.model_type == "anything"',
        'family.key == "qwen3_vl"',
        'key in ("qwen2_vl", "qwen2_5_vl")',
        'raw["model_type"] != expected',
        'getattr(config, "model_type", None) == expected',
        "config.model_type.lower() in names",
        'config.model_type.startswith("qwen")',
    ],
)
def test_a_model_type_branch_is_recognised(branch: str) -> None:
    assert _model_type_branches(ast.parse(branch)) == [1]


@pytest.mark.parametrize(
    "harmless",
    ['"model_type" not in raw', "family_of(config.model_type)", "FAMILIES[key].rope", "a == b"],
)
def test_what_is_no_model_type_branch_is_left_alone(harmless: str) -> None:
    assert _model_type_branches(ast.parse(harmless)) == []


def test_model_type_is_compared_in_families_only(root: Path, modules: list[Path]) -> None:
    found = [
        f"{module}:{line}"
        for module, tree in _trees(root, modules)
        if _room(module) != "families"
        for line in _model_type_branches(tree)
    ]
    assert found == [], "a family is data: put what differs into its record in families/"


def test_auto_classes_are_used_in_model_only(root: Path, modules: list[Path]) -> None:
    found = []
    for module, tree in _trees(root, modules):
        if _room(module) == "model":
            continue
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
            if isinstance(node, ast.Attribute):
                names = [node.attr]
            found += [f"{module}: {name}" for name in names if AUTO_CLASS.match(name)]
    assert found == [], "loading goes through sightline.model"


def test_modules_are_short(root: Path, modules: list[Path]) -> None:
    lengths = {
        str(module): len((root / "src/sightline" / module).read_text("utf-8").splitlines())
        for module in modules
    }
    assert {name: n for name, n in lengths.items() if n > MAX_LINES} == {}, "split it by noun"


def test_modules_are_named_after_what_they_hold(modules: list[Path]) -> None:
    parts = {part.removesuffix(".py") for module in modules for part in module.parts}
    assert {part for part in parts if NAMELESS.match(part)} == set()


def test_annotations_are_never_evaluated(root: Path, modules: list[Path]) -> None:
    missing = [
        str(module)
        for module, tree in _trees(root, modules)
        if not module.name.startswith("__")
        and not any(isinstance(n, ast.ImportFrom) and n.module == "__future__" for n in tree.body)
    ]
    assert missing == [], "begin with: from __future__ import annotations"


def test_every_module_says_what_it_is(root: Path, modules: list[Path]) -> None:
    silent = [str(m) for m, tree in _trees(root, modules) if ast.get_docstring(tree) is None]
    assert silent == []


def test_no_error_is_caught_unnamed(root: Path, modules: list[Path]) -> None:
    bare = [
        f"{module}:{node.lineno}"
        for module, tree in _trees(root, modules)
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]
    assert bare == []
