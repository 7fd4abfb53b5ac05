"""What all sections of the configuration share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticKnownError


class ContradictionError(ValueError):
    """A key that is possible by itself, but not beside the others.

    Args:
        name: The key, relative to the section that finds it: ``min_pixels``.
        problem: What disagrees, with both values.
        fix: What to do, a sentence.
    """

    def __init__(self, name: str, problem: str, fix: str) -> None:
        self.name = name
        self.problem = problem
        self.fix = fix
        super().__init__(f"{name}: {problem}. {fix}")


class Section(BaseModel):
    """A frozen section that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_type_is_guessed(cls, given: Any, info: ValidationInfo) -> Any:
        """Refuse what pydantic would turn into another type: ``true`` for 1, ``"3"`` for 3."""
        if info.field_name is None:
            return given
        annotation = cls.model_fields[info.field_name].annotation
        accepted = {annotation, *get_args(annotation)}
        in_quotes = _is_number_in_quotes(given) and str not in accepted
        if bool in accepted and not isinstance(given, bool):
            raise PydanticKnownError("bool_type")
        if float in accepted and (isinstance(given, bool) or in_quotes):
            raise PydanticKnownError("float_type")
        if int in accepted and (isinstance(given, bool) or in_quotes):
            raise PydanticKnownError("int_type")
        return given


def key(default: Any, meaning: str, *, unit: str = "", **limits: Any) -> Any:
    """A key with its meaning and unit, as ``sightline config --explain`` prints them.

    Args:
        default: Default value; ``...`` where the user must give one.
        meaning: One or two sentences.
        unit: Unit of a number.
        **limits: pydantic's: gt, ge, le, lt, min_length.
    """
    return Field(default, description=meaning, json_schema_extra={"unit": unit}, **limits)


def refuse_twice(given: Sequence[str], kind: str) -> None:
    """Refuse a list of names with one that stands in it twice.

    Args:
        given: The names.
        kind: What each of them is, in a word.

    Raises:
        ValueError: Says which.
    """
    twice = [name for name in dict.fromkeys(given) if given.count(name) > 1]
    if twice:
        raise ValueError(f"{twice[0]} stands twice; name each {kind} once")


def _is_number_in_quotes(given: Any) -> bool:
    if not isinstance(given, str):
        return False
    try:
        float(given)
    except ValueError:
        return False
    return True
