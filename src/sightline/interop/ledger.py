"""Keys of another tool's file, each taken once: every key ends in a row or more.

The reader of one tool fills a `Ledger`, so nothing is dropped unseen; a default of the other tool
that changes the result gets a row and is written out too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from sightline.config import RunConfig
from sightline.errors import ConfigError
from sightline.interop.imported import (
    THEIR_DEFAULT,
    VERDICTS,
    Carried,
    Imported,
    Verdict,
    shown,
    validated,
)


class Rule(NamedTuple):
    """How one key is carried over.

    Attributes:
        target: The key of run.yaml.
        convert: Turns the given value into ours; a ValueError says what is expected instead.
        note: What to know about it.
        verdict: Whether the meaning is the same.
        default: The other tool's default, written out where it is not ours; None: it is not.
    """

    target: str
    convert: Callable[[Any], Any]
    note: str = ""
    verdict: Verdict = "carried"
    default: Any = None


@dataclass
class Ledger:
    """Keys of another tool's file, each taken once, and what became of them.

    Args:
        tool: Name of the tool.
        source: The file.
        given: Its keys.
        folder: Folder of the run.yaml, which its paths are relative to.
    """

    tool: str
    source: Path
    given: dict[str, Any]
    folder: Path
    values: dict[str, Any] = field(default_factory=dict)
    rows: list[Carried] = field(default_factory=list)
    _all: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self._all = dict(self.given)

    def take(self, key: str, convert: Callable[[Any], Any] | None = None) -> Any:
        """The value of a key, which then counts as read; None where it is not given, or null.

        Raises:
            ConfigError: The value is not what ``convert`` expects.
        """
        value = self.given.pop(key, None)
        return value if value is None or convert is None else self.convert(key, value, convert)

    def asked(self, key: str, convert: Callable[[Any], Any]) -> Any:
        """The value of a key, read already or not; None where it is not given, or null."""
        value = self._all.get(key)
        return None if value is None else self.convert(key, value, convert)

    def convert(self, key: str, value: Any, convert: Callable[[Any], Any]) -> Any:
        """A value of the file as ours.

        Raises:
            ConfigError: It is not what ``convert`` expects.
        """
        try:
            return convert(value)
        except ValueError as error:
            raise self.error(key, f"{value!r} is given; {error}.", "Mend it there.") from None

    def error(self, key: str, problem: str, fix: str) -> ConfigError:
        """An error with the file and the key."""
        return ConfigError(f"{self.source}: {key}: {problem}\n{fix}")

    def put(self, target: str, result: Any) -> None:
        """Write a value of run.yaml; a tower that is one word becomes a mapping where it must."""
        *sections, last = target.split(".")
        section = self.values
        for name in sections:
            if isinstance(section.get(name), str):
                section[name] = {"mode": section[name]}
            section = section.setdefault(name, {})
        if isinstance(section.get(last), dict) and isinstance(result, str):
            section[last] = {"mode": result} | {
                name: value for name, value in section[last].items() if name != "mode"
            }
        else:
            section[last] = result

    def row(
        self, key: str, value: Any, target: str | None, result: Any, verdict: Verdict, note: str
    ) -> None:
        """Say what became of a key, without writing a value."""
        self.rows.append(
            Carried(key=key, value=value, target=target, result=result, verdict=verdict, note=note)
        )

    def write(
        self, key: str, value: Any, target: str, result: Any, verdict: Verdict, note: str
    ) -> None:
        """Write a value of run.yaml, and say so."""
        self.put(target, result)
        self.row(key, value, target, result, verdict, note)

    def none(self, key: str, value: Any, note: str) -> None:
        """Say that a key has no counterpart."""
        self.row(key, value, None, None, "none", note)

    def carry(self, key: str, rule: Rule) -> None:
        """Carry one key over by its rule; where it is not given, write the other tool's default."""
        value = self.take(key)
        if value is not None:
            renamed = rule.target.rsplit(".", 1)[-1] != key
            note = rule.note or ("Same meaning under another name." if renamed else "")
            result = self.convert(key, value, rule.convert)
            self.write(key, value, rule.target, result, rule.verdict, note)
        elif rule.default is not None and rule.default != our_default(rule.target):
            self.write_default(key, rule.default, rule.target, rule.default, rule.note)

    def write_default(self, key: str, value: Any, target: str, result: Any, note: str = "") -> None:
        """Write a default of the other tool that is not ours, and say so."""
        ours = our_default(target)
        words = "the model's own" if ours is None else shown(ours)
        # A key that has to be given has no default of ours.
        compared = "" if ours is PydanticUndefined else f"; ours is {words}"
        said = f"{THEIR_DEFAULT}{compared}. {note}".rstrip()
        self.write(key, value, target, result, "differs", said)

    def carry_all(self, rules: Mapping[str, Rule]) -> None:
        """Carry several keys over."""
        for key, rule in rules.items():
            self.carry(key, rule)

    def done(self, reasons: Mapping[str, str], unknown: str) -> Imported:
        """Give every key that is left a row, validate, and hand the result over.

        Args:
            reasons: Why keys have no counterpart: a sentence, and the keys it holds for, in one
                text with spaces.
            unknown: What to say of a key that is in none of them.

        Raises:
            ConfigError: The values are no run configuration.
        """
        by_key = {key: reason for reason, keys in reasons.items() for key in keys.split()}
        for key, value in self.given.items():
            self.none(key, value, by_key.get(key, unknown))
        self.given = {}
        said = {row.key for row in self.rows}
        for key, value in self._all.items():
            if key not in said:
                decides = "It only decides how other keys of the file are read."
                self.none(key, value, "It says nothing." if value is None else decides)
        order = sorted(self.rows, key=lambda row: VERDICTS.index(row.verdict))
        imported = Imported(
            tool=self.tool, source=self.source, values=_in_our_order(self.values), rows=order
        )
        validated(imported)
        return imported

    def path(self, path: Path) -> str:
        """A path as run.yaml writes it: relative to its folder, where they share one."""
        return portable(path, self.folder)

    def found(self, text: str) -> Path:
        """A path of the file, which the other tool takes relative to its working directory.

        It is looked for below this working directory, then beside the file.
        """
        try:
            path = Path(text).expanduser()
        except RuntimeError:
            path = Path(text)
        beside = self.source.absolute().parent / path
        here = Path.cwd() / path
        try:
            return beside if not here.exists() and beside.exists() else here
        except OSError as error:
            raise ConfigError(
                f"{self.source}: {shown(text)}: it cannot be looked for: {error.strerror}.\n"
                "Correct the path there."
            ) from error


def portable(path: Path, folder: Path) -> str:
    """A path relative to a folder; absolute where they have only the root in common."""
    target, start = (os.path.normpath(place.absolute()) for place in (path, folder))
    if os.path.commonpath([target, start]) == os.path.sep:
        return target
    return os.path.relpath(target, start)


def our_default(target: str) -> Any:
    """The default of a key of run.yaml, as run.yaml writes it.

    >>> our_default("tuning.lora.rank"), our_default("tuning.language")
    (16, 'lora')
    """
    *sections, last = target.split(".")
    section: type[BaseModel] = RunConfig
    for name in sections:
        annotation = section.model_fields[name].annotation
        assert isinstance(annotation, type)
        assert issubclass(annotation, BaseModel)
        section = annotation
    default = section.model_fields[last].default
    return default.model_dump() if isinstance(default, BaseModel) else default


def _in_our_order(values: dict[str, Any]) -> dict[str, Any]:
    """The sections in the order in which `sightline config --explain` lists them."""
    order = list(RunConfig.model_fields)
    return dict(sorted(values.items(), key=lambda item: order.index(item[0])))
