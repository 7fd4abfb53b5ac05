"""What is wrong with a configuration, one line a fault: where, which key, what, and what to do."""

from __future__ import annotations

from pydantic_core import ErrorDetails

from sightline.config.base import ContradictionError
from sightline.config.explain import explain
from sightline.config.read import Lines, Place, dotted
from sightline.config.suggest import in_schema, suggestion

_IS_SECTION = {"model_type", "list_type", "dict_type"}


def describe(fault: ErrorDetails, lines: Lines) -> str:
    """A fault that pydantic found, in the words of the file it was found in.

    Args:
        fault: One of ``ValidationError.errors()``.
        lines: Where the keys stand.
    """
    place: Place = fault["loc"]
    if fault["type"] == "invalid_key":
        # A key that YAML reads as a number is no index of a list.
        place = (*place[:-1], str(place[-1]))
    problem = _problem(fault, dotted(place))
    reason = fault.get("ctx", {}).get("error")
    if isinstance(reason, ContradictionError):
        place = (*place, *reason.name.split("."))
    parts = [lines.where(place), dotted(place), problem]
    return ": ".join(part for part in parts if part)


def _problem(fault: ErrorDetails, name: str) -> str:
    kind, reason = fault["type"], fault.get("ctx", {}).get("error")
    if isinstance(reason, ContradictionError):
        return f"{reason.problem}. {reason.fix}"
    if kind == "value_error":
        return f"{reason}."
    if kind == "invalid_key":
        return "a key is a word. `sightline config --explain` lists all keys."
    if kind == "extra_forbidden":
        return f"there is no such key. {suggestion(name)}"
    if kind == "missing":
        return f"this key is missing. {_meaning(in_schema(name))}".rstrip()
    if kind in _IS_SECTION and fault["input"] is None:
        return "nothing is given. Write what belongs below it, or remove the key."
    return f"{fault['input']!r} is given. {fault['msg']}."


def _meaning(name: str) -> str:
    rows = (row for row in explain() if row.key.replace("[]", "") == name)
    return next((row.meaning for row in rows), "")
