"""Every key with its meaning, generated from the schema."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sightline.config.schema import RunConfig
from sightline.config.tuning import Mode, TowerSettings

_EXAMPLE = """\
model: Qwen/Qwen2.5-VL-3B-Instruct      # a hub id or a folder
data:
  train: train.jsonl
tuning: {language: lora, projector: full, vision: freeze}
training: {epochs: 3, learning_rate: 1.0e-4}
output: runs/first
"""

_TYPE_NAMES: dict[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true | false",
    type(None): "null",
}


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
    """Every key of the configuration, in its order; keys of a section that comes again once."""
    shown: dict[type[BaseModel], str] = {}
    rows: list[Row] = []
    for name, field in _without_repetition().items():
        section = section_of(field.annotation)
        if section is None:
            rows.append(_row(name, field, type_name(field.annotation)))
        elif section in shown:
            rows.append(_row(name, field, f"as {shown[section]}"))
        else:
            shown[section] = name
            if section is TowerSettings:
                rows.append(_row(name, field, f"{type_name(Mode)} | mapping"))
    return rows


def _without_repetition() -> dict[str, FieldInfo]:
    """Keys and sections; of a section that comes again only its name."""
    seen: set[type[BaseModel]] = set()
    left_out: list[str] = []
    found: dict[str, FieldInfo] = {}
    for name, field in fields().items():
        if name.startswith(tuple(left_out)):
            continue
        found[name] = field
        section = section_of(field.annotation)
        if section in seen:
            left_out += [f"{name}.", f"{name}[]."]
        elif section is not None:
            seen.add(section)
    return found


def _row(name: str, field: FieldInfo, type_: str) -> Row:
    return Row(
        key=name,
        type=type_,
        default=_default(field),
        unit=unit_of(field),
        meaning=field.description or "",
    )


def example_yaml() -> str:
    """The smallest useful configuration."""
    return _EXAMPLE


def key_names() -> list[str]:
    """Dotted names of keys and sections, for suggestions; of a repeated section its name alone."""
    return [name.replace("[]", "") for name in _without_repetition()]


def fields() -> dict[str, FieldInfo]:
    """Every key and section of the schema by its dotted name, in its order."""
    return dict(_fields(RunConfig, ""))


def unit_of(field: FieldInfo) -> str:
    """Unit of a key's number, or empty."""
    extra = field.json_schema_extra
    return str(extra.get("unit", "")) if isinstance(extra, dict) else ""


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a type holds, by itself, in a list or beside null."""
    if _is_section(annotation):
        return annotation
    found = (section_of(part) for part in get_args(annotation))
    return next((section for section in found if section is not None), None)


def type_name(annotation: Any) -> str:
    """A type in YAML's words.

    >>> type_name(int | None), type_name(Literal["bf16", "fp32"]), type_name(list[str])
    ('whole number | null', 'bf16 | fp32', 'list of text')
    """
    origin = get_origin(annotation)
    if origin is Literal:
        return " | ".join(str(value) for value in get_args(annotation))
    if origin in (Union, types.UnionType):
        return " | ".join(type_name(part) for part in get_args(annotation))
    if origin is list:
        return f"list of {type_name(get_args(annotation)[0])}"
    return "mapping" if _is_section(annotation) else _TYPE_NAMES[annotation]


def _fields(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in section.model_fields.items():
        yield f"{prefix}{name}", field
        inner = section_of(field.annotation)
        if inner is not None:
            items = "[]" if get_origin(field.annotation) is list else ""
            yield from _fields(inner, f"{prefix}{name}{items}.")


def _is_section(annotation: Any) -> bool:
    # The first half is no luxury: issubclass raises on list[Source] and on a union.
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, BaseModel):
        value = value.model_dump()
    return f"{value:g}" if isinstance(value, float) else str(value)
