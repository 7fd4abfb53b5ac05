"""The ``data_dict`` of Qwen's own fine-tuning code: a Python file, parsed and never imported."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sightline.errors import ConfigError


def read_datasets(file: Path) -> dict[str, dict[str, str]]:
    """The ``data_dict`` of a Python file, of literals alone; the file is not imported.

    Returns:
        ``annotation_path`` and ``data_path`` by the data set's name.

    Raises:
        ConfigError: The file is missing, is no Python, or does not spell its data sets out.
    """
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: the file cannot be read: {error.strerror}.") from error
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: this is not Python: {error}.") from error
    values: dict[str, Any] = {}
    for statement in tree.body:
        name, node = _assigned(statement)
        if name is not None and node is not None:
            values[name] = _literal(node, values)
    known = values.get("data_dict")
    fix = 'Write data_dict = {"name": {"annotation_path": "...", "data_path": "..."}}.'
    if not isinstance(known, dict) or not known:
        raise ConfigError(f"{file}: data_dict: it is missing, or no dict of literals.\n{fix}")
    for name, entry in known.items():
        path = entry.get("annotation_path") if isinstance(entry, dict) else None
        root = entry.get("data_path", "") if isinstance(entry, dict) else ""
        if not isinstance(name, str) or not isinstance(path, str) or not isinstance(root, str):
            raise ConfigError(f"{file}: data_dict[{name!r}]: no literal annotation_path.\n{fix}")
    return known


def _assigned(statement: ast.stmt) -> tuple[str | None, ast.expr | None]:
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id, statement.value
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return statement.target.id, statement.value
    return None, None


def _literal(node: ast.expr, values: Mapping[str, Any]) -> Any:
    """The value of a literal, or of a name of one; None where it would have to be computed."""
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            return values.get(node.id)
        case ast.JoinedStr():
            parts = [part.value for part in node.values if isinstance(part, ast.Constant)]
            return "".join(map(str, parts)) if len(parts) == len(node.values) else None
        case ast.Dict():
            pairs = zip(node.keys, node.values, strict=True)
            return {
                _literal(key, values): _literal(item, values)
                for key, item in pairs
                if isinstance(key, ast.Constant)
            }
    return None
