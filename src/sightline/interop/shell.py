"""Shell scripts that start a training: read for its one command, never run.

Words, quotes, comments, continued lines and plain ``name=value`` variables are understood. What a
command would print is not known, so it stays as it is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sightline.errors import ConfigError

_NAME = re.compile(r"(\w+)=")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::?-([^}]*))?\})")


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command of a shell script.

    Attributes:
        words: Its arguments.
        words_before: What stands before them: a launcher with its options, and the program.
        environment: Variables that the script exports, or sets for this command.
    """

    words: list[str]
    words_before: list[str]
    environment: dict[str, str]


@dataclass
class _Word:
    """A word of a command: pieces of text, and whether quotes stood around them."""

    pieces: list[tuple[str, str]] = field(default_factory=list)

    def expanded(self, variables: Mapping[str, str]) -> list[str]:
        """The words that the shell would make of it: what is unquoted falls apart at spaces."""
        words, current, begun = [], "", False
        for text, quote in self.pieces:
            value = text if quote == "'" else _substituted(text, variables)
            if quote or value == text:
                current, begun = current + value, True
                continue
            first, *rest = value.split() or [""]
            current, begun = current + first, begun or bool(first)
            for part in rest:
                words.append(current)
                current = part
        return [*words, current] if begun else words


def read_command(file: Path, start: Callable[[list[str]], int | None], expected: str) -> Command:
    """The one command of a shell script that starts a training. Nothing is executed.

    Args:
        file: The script.
        start: Where the arguments begin in a command's words; None where it is another command.
        expected: What such a command has in it, for the message.

    Raises:
        ConfigError: The file is missing or no text, a quote stays open, or there is no such
            command, or more than one.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"{file}: the script cannot be read: {reason}.") from error
    variables: dict[str, str] = {}
    exported: dict[str, str] = {}
    found = []
    for command in _commands(text, file):
        own, words = _assignments(command, variables)
        if not words or words[0] == "export":
            for word in words[1:]:
                name, _, value = word.partition("=")
                own[name] = value or variables.get(name, "")
            variables |= own
            exported |= own if words else {}
            continue
        begin = start(words)
        if begin is not None:
            plain = _without_redirections(words)
            found.append(
                Command(words=plain[begin:], words_before=plain[:begin], environment=exported | own)
            )
    if len(found) != 1:
        raise ConfigError(
            f"{file}: {len(found)} commands with {expected} are found; one is expected.\n"
            f"Name a script that starts {expected} once, with plain name=value variables."
        )
    return found[0]


def read_flags(words: list[str], file: Path) -> dict[str, Any]:
    """Flags by name: a text, a list where several words follow, true where none does.

    Raises:
        ConfigError: A word stands before the first flag, or a flag is given twice.

    >>> read_flags(["--lr", "1e-5", "--names", "a", "b", "--bf16"], Path("run.sh"))
    {'lr': '1e-5', 'names': ['a', 'b'], 'bf16': True}
    """
    flags: dict[str, list[str]] = {}
    name = ""
    for word in words:
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            if name in flags:
                raise ConfigError(f"{file}: --{name} is given twice.\nKeep one of them.")
            flags[name] = [value] if equals else []
        elif name:
            flags[name].append(word)
        else:
            raise ConfigError(f"{file}: {word!r} stands before the first --flag.\nRemove it.")
    return {
        key: True if not values else values[0] if len(values) == 1 else values
        for key, values in flags.items()
    }


def _assignments(
    command: list[_Word], variables: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Leading ``name=value`` words of a command, and the words after them."""
    own: dict[str, str] = {}
    for place, word in enumerate(command):
        text, quote = word.pieces[0]
        found = None if quote else _NAME.match(text)
        if found is None:
            words = [
                part for each in command[place:] for part in each.expanded({**variables, **own})
            ]
            return own, words
        pieces = [(text[found.end() :], ""), *word.pieces[1:]]
        known = {**variables, **own}
        own[found[1]] = "".join(
            piece if quote == "'" else _substituted(piece, known) for piece, quote in pieces
        )
    return own, []


def _substituted(text: str, variables: Mapping[str, str]) -> str:
    """Variables that the script sets in place of their names; others stay as they are written."""

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        fallback = found[0] if found[3] is None else found[3].strip("\"'")
        return variables.get(name, fallback)

    return _VARIABLE.sub(value, text)


def _without_redirections(words: list[str]) -> list[str]:
    kept: list[str] = []
    skip = False
    for word in words:
        operator = re.match(r"^\d*(?:>>?|<|&>)&?", word)
        if re.match(r"\$\{?[@*]", word):
            # The script's own arguments: none are known here.
            continue
        if operator is not None:
            skip = operator.end() == len(word)
        elif skip:
            skip = False
        else:
            kept.append(word)
    return kept


def _commands(text: str, file: Path) -> Iterator[list[_Word]]:
    """The commands of a script, split into words; comments are left out."""
    text = text.replace("\r\n", "\n").replace("\\\n", " ")
    command: list[_Word] = []
    word: _Word | None = None
    at = 0
    while at < len(text):
        sign = text[at]
        if sign in " \t" or (sign == "#" and word is None) or _ends(text, at):
            if word is not None:
                command.append(word)
                word = None
            if sign == "#":
                at = (text + "\n").index("\n", at)
                continue
            if sign not in " \t" and command:
                yield command
                command = []
            at += 1
            continue
        word = word or _Word()
        at = _read_piece(text, at, word, file)
    if word is not None:
        command.append(word)
    if command:
        yield command


def _ends(text: str, at: int) -> bool:
    """Whether a command ends here: not at the & of ``2>&1`` or ``&>file``."""
    sign = text[at]
    if sign == "&":
        return text[at - 1 : at] != ">" and text[at + 1 : at + 2] != ">"
    return sign in "\n;|"


def _read_piece(text: str, at: int, word: _Word, file: Path) -> int:
    """Add the piece of a word that begins here, and say where it ends."""
    sign = text[at]
    if sign in "\"'":
        end = at + 1
        while end < len(text) and text[end] != sign:
            end += 2 if sign == '"' and text[end] == "\\" else 1
        if end >= len(text):
            line = text.count("\n", 0, at) + 1
            raise ConfigError(f"{file}: the quote {sign} near line {line} is not closed.")
        inner = text[at + 1 : end]
        word.pieces.append((re.sub(r'\\(["\\])', r"\1", inner) if sign == '"' else inner, sign))
        return end + 1
    if sign == "\\" and at + 1 < len(text):
        word.pieces.append((text[at + 1], "'"))
        return at + 2
    # What a command would print is not known: it stays one piece, as it is written.
    end = _closing(text, at + 1) if text.startswith("$(", at) else _past(text, at)
    while end < len(text) and text[end] not in " \t\n;|&\"'\\" and text[end : end + 2] != "$(":
        end = _past(text, end)
    word.pieces.append((text[at:end], ""))
    return end


def _past(text: str, at: int) -> int:
    """Past a sign, or past a whole ``${...}``, which may hold quotes."""
    close = text.find("}", at) if text.startswith("${", at) else -1
    return max(at, close) + 1


def _closing(text: str, at: int) -> int:
    depth = 0
    for end in range(at, len(text)):
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        if depth == 0:
            return end + 1
    return len(text)
