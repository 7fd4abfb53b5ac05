"""What all sections of the configuration share."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A frozen section that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def key(default: Any, meaning: str, *, unit: str = "", **limits: Any) -> Any:
    """A key with its meaning and unit, as ``sightline config --explain`` prints them.

    Args:
        default: Default value; ``...`` where the user must give one.
        meaning: One or two sentences.
        unit: Unit of a number.
        **limits: pydantic's: gt, ge, le, lt.
    """
    return Field(default, description=meaning, json_schema_extra={"unit": unit}, **limits)
