"""Values of another tool's file, read as numbers, words and lists.

A file may hold a number as a text, and every flag of a shell script is one. Each reader takes what
is given and raises a ValueError that says what is expected instead.
"""

from __future__ import annotations

import math
from typing import Any


def as_int(value: Any) -> int:
    """A whole number, also one in quotes or written as 4.0."""
    if type(value) is int:
        return value
    number = as_float(value)
    if number != int(number):
        raise ValueError("a whole number is expected")
    return int(number)


def as_count(value: Any) -> int:
    """A whole number above 0."""
    number = as_int(value)
    if number < 1:
        raise ValueError("a whole number above 0 is expected")
    return number


def as_float(value: Any) -> float:
    """A finite number, also one in quotes."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("a number is expected") from None
    if not math.isfinite(number):
        raise ValueError("a finite number is expected")
    return number


def as_bool(value: Any) -> bool:
    """True or false, also in quotes."""
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if isinstance(value, list) or str(value).lower() not in words:
        raise ValueError("true or false is expected")
    return words[str(value).lower()]


def as_text(value: Any) -> str:
    """One text that is no unknown shell variable."""
    if isinstance(value, list | dict | bool) or not str(value):
        raise ValueError("one word or path is expected")
    if "$" in str(value):
        raise ValueError("the shell variable in it is not set in the file")
    return str(value)


def as_list(value: Any) -> list[str]:
    """A list of texts, also one text with commas."""
    items = value if isinstance(value, list) else as_text(value).split(",")
    return [as_text(item).strip() for item in items if item != ""]


def as_processes(value: Any) -> int:
    """A number of processes; 0 stands for the one that asks, which is 1."""
    return as_int(value) or 1


def as_limit(value: Any) -> int | None:
    """A whole number; None for 0 or less, which stand for no limit."""
    number = as_int(value)
    return number if number > 0 else None


def as_flag(value: Any) -> bool:
    """Whether a flag is given and not false."""
    return value is not None and str(value).lower() not in ("false", "0", "no")
