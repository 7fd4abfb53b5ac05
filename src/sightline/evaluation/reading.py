"""Boxes and points of an answer, with what had to be mended to read them and what was lost."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from sightline.evaluation.lenient_json import Node, read_json_in

# Keys of the families' own answers first. Another key is taken where a list of numbers is in it.
_BOX_KEYS = ("bbox_2d", "bbox", "box_2d", "box")
_POINT_KEYS = ("point_2d", "point")
_LABEL_KEYS = ("label", "name", "class", "category", "object")
# Sides beyond this are no pixels, and would overflow on the way to the file's.
_LARGEST_SIDE = 1e9
_FENCE = re.compile(r"```[a-zA-Z]*")
_REFERENCE = re.compile(r"<\|object_ref_start\|>(.*?)<\|object_ref_end\|>", flags=re.DOTALL)
_BOX_START = "<|box_start|>"


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundObject:
    """A box or a point of an answer.

    Attributes:
        label: What it is said to be; empty where nothing is said.
        numbers: x1, y1, x2, y2 with the upper left corner first, or x, y; in the space that the
            answer is written in.
        start: First character of what it was read from.
        stop: Character behind it.
    """

    label: str
    numbers: tuple[float, ...]
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadAnswer:
    """What an answer says.

    Attributes:
        found: Its boxes and points, in order.
        repairs: What had to be mended, by name: those of `read_json_in`, ``fenced`` (between
            three backticks), ``text_around`` and ``corners_swapped``.
        lost: Why something that was begun is no box and no point, one name each: ``cut_off``,
            ``wrong_count`` (neither two nor four numbers, or not as many as the key wants) and
            ``no_numbers``.
        is_list: Whether it holds JSON or box tokens at all; ``[]`` does, a bracket that nothing
            follows does not.
    """

    found: tuple[FoundObject, ...] = ()
    repairs: frozenset[str] = frozenset()
    lost: tuple[str, ...] = ()
    is_list: bool = False


def read_answer(text: str) -> ReadAnswer:
    """Read an answer.

    Args:
        text: The answer, box tokens included.

    >>> read = read_answer("```json\\n[{'bbox_2d': [1, 2, 3, 4], 'label': 'cat'}, {'bbox_2d': [5, ")
    >>> [(one.label, one.numbers) for one in read.found]
    [('cat', (1.0, 2.0, 3.0, 4.0))]
    >>> sorted(read.repairs), read.lost
    (['cut_off', 'fenced', 'single_quotes'], ('cut_off',))
    """
    nodes, repairs = read_json_in(text)
    collected = _Collected(text)
    for node in nodes:
        collected.take(node)
    is_tokens = bool(nodes) and all(text.startswith(_BOX_START, node.start) for node in nodes)
    around = set() if is_tokens else _around(text, nodes)
    return ReadAnswer(
        found=tuple(collected.found),
        repairs=repairs | collected.repairs | around,
        lost=tuple(collected.lost),
        is_list=any(map(_says_something, nodes)),
    )


@dataclass(kw_only=False, slots=True)
class _Collected:
    """Boxes and points on the way through the values of an answer."""

    text: str
    found: list[FoundObject] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    repairs: set[str] = field(default_factory=set)

    def take(self, node: Node) -> None:
        """Add what a value holds."""
        if node.kind == "object":
            self._take_object(node)
        elif node.kind == "array":
            self._take_array(node)

    def _take_object(self, node: Node) -> None:
        # As every reader of JSON: of a key that comes again the last holds.
        values = dict(node.pairs)
        keys = [key for key in (*_BOX_KEYS, *_POINT_KEYS) if key in values]
        keys = keys or [key for key, value in values.items() if _is_numbers(value)][:1]
        if not keys:
            if not node.is_whole and not any(map(_holds_more, values.values())):
                # What was begun may have become a box.
                self.lost.append("cut_off")
            for value in values.values():
                self.take(value)
            return
        label = _label(values)
        for key in keys:
            value = values[key]
            if not value.is_whole or (not node.is_whole and label is None):
                # A label that is still to come would be another box.
                self.lost.append("cut_off")
                continue
            wanted = 4 if key in _BOX_KEYS else 2 if key in _POINT_KEYS else None
            self._add(label or "", value, node, wanted)

    def _take_array(self, node: Node) -> None:
        if _is_numbers(node):
            if not node.is_whole:
                self.lost.append("cut_off")
            else:
                self._add(self._reference_before(node), node, node, None)
            return
        if not node.is_whole and not node.items and self.text.startswith(_BOX_START, node.start):
            self.lost.append("cut_off")
        for item in node.items:
            self.take(item)

    def _add(self, label: str, value: Node, around: Node, wanted: int | None) -> None:
        numbers = _numbers(value)
        if numbers is None:
            self.lost.append("no_numbers")
            return
        if len(numbers) != wanted and (wanted is not None or len(numbers) not in (2, 4)):
            self.lost.append("wrong_count")
            return
        if len(numbers) == 4:
            x1, y1, x2, y2 = numbers
            if x2 < x1 or y2 < y1:
                self.repairs.add("corners_swapped")
                numbers = min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)
        self.found.append(
            FoundObject(label=label, numbers=numbers, start=around.start, stop=around.stop)
        )

    def _reference_before(self, node: Node) -> str:
        """The name that stands before a box between box tokens; it holds for the next ones too."""
        if not self.text.startswith(_BOX_START, node.start):
            return ""
        names = _REFERENCE.findall(self.text[: node.start])
        return names[-1].strip() if names else ""


def _says_something(node: Node) -> bool:
    """Whether a value is whole, or something in it is."""
    if node.is_whole or node.kind not in ("object", "array"):
        return node.is_whole
    return any(map(_says_something, (*node.items, *(value for _, value in node.pairs))))


def _label(values: dict[str, Node]) -> str | None:
    """The label of an object; None where none is there, or not to its end."""
    named = [values[key] for key in _LABEL_KEYS if key in values]
    for node in [*named, *(value for value in values.values() if value.kind == "text")]:
        if node.is_whole and node.kind == "text":
            return str(node.scalar).strip()
    return None


def _holds_more(node: Node) -> bool:
    """Whether objects or arrays stand in a value, which are looked at by themselves."""
    return node.kind in ("object", "array")


def _is_numbers(node: Node) -> bool:
    """Whether a value is a list of numbers, or of pairs of them."""
    return (
        node.kind == "array"
        and bool(node.items)
        and all(item.kind == "number" for item in _flat(node))
    )


def _flat(node: Node) -> Iterator[Node]:
    """The numbers of a list; corners may be pairs."""
    are_pairs = len(node.items) == 2 and all(
        item.kind == "array" and len(item.items) == 2 for item in node.items
    )
    for item in node.items:
        yield from item.items if are_pairs else (item,)


def _numbers(node: Node) -> tuple[float, ...] | None:
    """The numbers of a list; None where something else is in it, or one that is no side."""
    if not _is_numbers(node):
        return None
    numbers = tuple(float(item.scalar or 0.0) for item in _flat(node))
    # Not a number is within no bound.
    return numbers if all(abs(number) <= _LARGEST_SIDE for number in numbers) else None


def _around(text: str, nodes: tuple[Node, ...]) -> set[str]:
    """What stands around the values of an answer."""
    if not nodes:
        return set()
    place, rest = 0, []
    for node in nodes:
        rest.append(text[place : node.start])
        place = node.stop
    said = " ".join([*rest, text[place:]])
    found = {"fenced"} if "```" in said else set()
    words = _FENCE.sub(" ", said).replace(",", " ").strip()
    return found | ({"text_around"} if words else set())
