"""JSON as models write it: cut off, in single quotes, with commas and brackets that do not fit.

Every deviation from JSON is named, so that nothing is mended in silence. Values know where they
stand in the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple, NoReturn

Kind = Literal["object", "array", "text", "number", "word"]
Scalar = str | float | bool | None

_SPACE = re.compile(r"\s*")
_START = re.compile(r"[{\[]|<\|box_start\|>")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
_WORD = re.compile(r"[A-Za-z_]\w*")
_WORDS: dict[str, Scalar] = {"true": True, "false": False, "null": None}
_PYTHON_WORDS: dict[str, Scalar] = {"True": True, "False": False, "None": None}
_PAIR = r"\(\s*([+-]?\d[\d.]*)\s*,\s*([+-]?\d[\d.]*)\s*\)"
_BOX_START = "<|box_start|>"
_BOX_TOKENS = re.compile(
    rf"<\|box_start\|>\s*{_PAIR}\s*(?:,\s*{_PAIR}\s*)?(?:<\|box_end\|>)?", flags=re.DOTALL
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_MAX_DEPTH = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A value of a text.

    Attributes:
        kind: object, array, text, number or word (true, false, null).
        start: First character.
        stop: Character behind it.
        is_whole: Whether it had come to its end when the text did.
        scalar: The value of a text, a number or a word.
        items: The values of an array.
        pairs: Keys and values of an object, in order; a key may come again.
    """

    kind: Kind
    start: int
    stop: int
    is_whole: bool = True
    scalar: Scalar = None
    items: tuple[Node, ...] = ()
    pairs: tuple[tuple[str, Node], ...] = ()


class Reading(NamedTuple):
    """What a text holds.

    Attributes:
        nodes: Objects and arrays, the outermost ones, in order.
        repairs: What is not JSON in them, by name: ``cut_off``, ``single_quotes``, ``bare_keys``,
            ``trailing_comma``, ``missing_comma``, ``brackets``, ``python_words``,
            ``duplicate_keys``.
    """

    nodes: tuple[Node, ...]
    repairs: frozenset[str]


class _NoJsonError(Exception):
    """What begins here is no JSON, not even broken."""


def read_json_in(text: str) -> Reading:
    """Every object and array of a text, whatever stands around them.

    Args:
        text: An answer.

    >>> [node.kind for node in read_json_in("Here: [{'a': 1},] and {x}").nodes]
    ['array']
    >>> sorted(read_json_in("Here: [{'a': 1},] and {x}").repairs)
    ['single_quotes', 'trailing_comma']
    """
    nodes: list[Node] = []
    repairs: set[str] = set()
    place = 0
    while (found := _START.search(text, place)) is not None:
        reader = _Reader(text)
        try:
            node = reader.value(found.start(), 0)
        except _NoJsonError:
            place = found.start() + 1
            continue
        nodes.append(node)
        repairs |= reader.repairs
        place = max(node.stop, found.start() + 1)
    return Reading(tuple(nodes), frozenset(repairs))


class _Reader:
    """Reads one value and what is in it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.repairs: set[str] = set()

    def value(self, place: int, depth: int) -> Node:
        """The value that begins at a place or behind the space there."""
        if depth > _MAX_DEPTH:
            raise _NoJsonError
        place = self._skip(place)
        sign = self._at(place)
        if sign in "{[" and sign:
            return self._open(place, depth)
        if sign in "\"'" and sign:
            return self._string(place)
        if sign == "<":
            return self._box(place)
        if (number := _NUMBER.match(self._text, place)) is not None:
            scalar = float(number.group())
            return Node(kind="number", start=place, stop=number.end(), scalar=scalar)
        return self._word(place)

    def _open(self, place: int, depth: int) -> Node:
        return self._object(place, depth) if self._at(place) == "{" else self._array(place, depth)

    def _array(self, start: int, depth: int) -> Node:
        items: list[Node] = []
        place = self._skip(start + 1)
        while True:
            sign = self._at(place)
            if not sign:
                return self._cut(Node(kind="array", start=start, stop=place, items=tuple(items)))
            if sign == "]" or (sign == "}" and items):
                # A brace belongs to the object around it.
                stop = place + 1 if sign == "]" else place
                self.repairs |= {"brackets"} if sign == "}" else set()
                return Node(kind="array", start=start, stop=stop, items=tuple(items))
            item = self.value(place, depth + 1)
            items.append(item)
            if not item.is_whole:
                made = Node(kind="array", start=start, stop=item.stop, items=tuple(items))
                return self._cut(made)
            place = self._next(item.stop, "]}")

    def _object(self, start: int, depth: int) -> Node:
        pairs: list[tuple[str, Node]] = []
        place = self._skip(start + 1)
        while True:
            sign = self._at(place)
            if not sign:
                return self._cut(Node(kind="object", start=start, stop=place, pairs=tuple(pairs)))
            if sign == "}" or (sign == "]" and pairs):
                # A bracket belongs to the array around it.
                stop = place + 1 if sign == "}" else place
                self.repairs |= {"brackets"} if sign == "]" else set()
                return Node(kind="object", start=start, stop=stop, pairs=tuple(pairs))
            key = self._key(place)
            place = self._skip(key.stop)
            if not key.is_whole or not self._at(place):
                return self._cut(Node(kind="object", start=start, stop=place, pairs=tuple(pairs)))
            if self._at(place) != ":":
                raise _NoJsonError
            if not self._at(self._skip(place + 1)):
                stop = len(self._text)
                return self._cut(Node(kind="object", start=start, stop=stop, pairs=tuple(pairs)))
            value = self.value(place + 1, depth + 1)
            if any(name == key.scalar for name, _ in pairs):
                self.repairs.add("duplicate_keys")
            pairs.append((str(key.scalar), value))
            if not value.is_whole:
                made = Node(kind="object", start=start, stop=value.stop, pairs=tuple(pairs))
                return self._cut(made)
            place = self._next(value.stop, "}]")

    def _key(self, place: int) -> Node:
        if self._at(place) in ('"', "'"):
            return self._string(place)
        found = _WORD.match(self._text, place)
        if found is None:
            raise _NoJsonError
        self.repairs.add("bare_keys")
        return Node(kind="text", start=place, stop=found.end(), scalar=found.group())

    def _next(self, place: int, closing: str) -> int:
        """Where the next item or the end of a list is, behind an item."""
        place = self._skip(place)
        sign = self._at(place)
        if sign == ",":
            place = self._skip(place + 1)
            after = self._at(place)
            if after and after in closing:
                self.repairs.add("trailing_comma")
        elif sign and sign not in closing:
            self.repairs.add("missing_comma")
        return place

    def _string(self, start: int) -> Node:
        quote = self._text[start]
        self.repairs |= {"single_quotes"} if quote == "'" else set()
        said: list[str] = []
        place = start + 1
        while place < len(self._text):
            sign = self._text[place]
            if sign == "\\":
                more, place = self._escaped(place)
                said.append(more)
                continue
            if sign == quote and (quote == '"' or self._ends_here(place)):
                return Node(kind="text", start=start, stop=place + 1, scalar="".join(said))
            said.append(sign)
            place += 1
        made = Node(kind="text", start=start, stop=place, scalar="".join(said))
        return self._cut(made)

    def _ends_here(self, place: int) -> bool:
        """Whether a single quote ends its text, and is no apostrophe."""
        after = self._at(self._skip(place + 1))
        return not after or after in ",:}]"

    def _escaped(self, place: int) -> tuple[str, int]:
        sign = self._at(place + 1)
        digits = self._text[place + 2 : place + 6]
        if sign == "u" and re.fullmatch("[0-9a-fA-F]{4}", digits):
            return chr(int(digits, 16)).encode("utf-8", "replace").decode(), place + 6
        return _ESCAPES.get(sign, sign), place + 2

    def _box(self, start: int) -> Node:
        """A box between box tokens, as an array of its numbers."""
        found = _BOX_TOKENS.match(self._text, start)
        if found is None:
            if not self._text.startswith(_BOX_START, start):
                raise _NoJsonError
            if "<|box_end|>" in self._text[start:]:
                raise _NoJsonError
            made = Node(kind="array", start=start, stop=len(self._text))
            return self._cut(made)
        items = tuple(
            Node(kind="number", start=start, stop=found.end(), scalar=_float(side))
            for side in found.groups()
            if side is not None
        )
        made = Node(kind="array", start=start, stop=found.end(), items=items)
        return made if found.group().endswith("<|box_end|>") else self._cut(made)

    def _word(self, place: int) -> Node:
        found = _WORD.match(self._text, place)
        word = found.group() if found is not None else ""
        known = _WORDS | _PYTHON_WORDS
        if word not in known:
            _refuse(self._text, place)
        self.repairs |= {"python_words"} if word in _PYTHON_WORDS else set()
        return Node(kind="word", start=place, stop=place + len(word), scalar=known[word])

    def _cut(self, node: Node) -> Node:
        self.repairs.add("cut_off")
        return Node(
            kind=node.kind,
            start=node.start,
            stop=len(self._text),
            is_whole=False,
            scalar=node.scalar,
            items=node.items,
            pairs=node.pairs,
        )

    def _skip(self, place: int) -> int:
        found = _SPACE.match(self._text, place)
        return found.end() if found is not None else place

    def _at(self, place: int) -> str:
        return self._text[place] if place < len(self._text) else ""


def _refuse(text: str, place: int) -> NoReturn:
    raise _NoJsonError(text[place : place + 8])


def _float(side: str) -> float:
    try:
        return float(side)
    except ValueError:
        return float("nan")
