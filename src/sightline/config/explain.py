"""Every key with its meaning, generated from the schema."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sightline.config.schema import RunConfig


class Row(NamedTuple):
    """One key.

    Attributes:
        key: Dotted name; a list of mappings is written ``data.train[].path``.
        type: Type in YAML's words.
        default: Default in YAML's words; ``required`` where there is none.
        unit: Unit of a number, or empty.
        meaning: What it does.
    """

    key: str
    type: str
    default: str
    unit: str
    meaning: str


def explain() -> list[Row]:
    """Every key of the configuration, in its order."""
    return list(_rows(RunConfig, ""))


def key_names() -> list[str]:
    """Dotted names of all keys and sections, for suggestions."""
    return list(_names(RunConfig, ""))


def _rows(section: type[BaseModel], prefix: str) -> Iterator[Row]:
    for name, field in section.model_fields.items():
        inner = _section_of(field.annotation)
        if inner is not None:
            is_list = get_origin(field.annotation) is list
            yield from _rows(inner, f"{prefix}{name}{'[]' if is_list else ''}.")
            continue
        extra = field.json_schema_extra
        unit = str(extra.get("unit", "")) if isinstance(extra, dict) else ""
        yield Row(
            key=f"{prefix}{name}",
            type=_type_name(field.annotation),
            default=_default(field),
            unit=unit,
            meaning=field.description or "",
        )


def _names(section: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield f"{prefix}{name}"
        inner = _section_of(field.annotation)
        if inner is not None:
            yield from _names(inner, f"{prefix}{name}.")


def _section_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in get_args(annotation):
        inner = _section_of(part)
        if inner is not None:
            return inner
    return None


def _type_name(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Literal:
        return " | ".join(str(value) for value in get_args(annotation))
    if origin in (Union, types.UnionType):
        return " | ".join(_type_name(part) for part in get_args(annotation))
    if origin is list:
        return f"list of {_type_name(get_args(annotation)[0])}"
    names = {str: "text", int: "whole number", float: "number", bool: "true | false"}
    return "null" if annotation is type(None) else names[annotation]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
