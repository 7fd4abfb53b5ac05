"""Rendering a chat template once for each shape of conversation, where that is safe.

A template of a checkpoint runs in jinja's sandbox, in 50 to 100 us a sample: more than all the
rest of measuring a sample. Nearly all templates only write texts where they stand, so conversations
of one shape (roles, kinds of parts) differ in nothing but their texts. Such a template is rendered
once for a shape with marks in place of texts, and the texts are put in.

A template that looks into a text (a filter, a method, a slice, a comparison) is always rendered in
full. Every shape is tried with a text that is hard to keep as it is, and the first conversations of
a shape are rendered in full too: one that differs turns the short way off.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import jinja2
from jinja2 import nodes

from sightline.data.conversation import Conversation, ImagePart, TextPart, VideoPart

Render = Callable[[Sequence[dict[str, Any]]], str]

# Signs of Unicode's private use, which stand in no template; in a text they do no harm, because the
# texts are put in behind the search for them.
_MARK = "\ue000{}\ue001"
_MARKS = re.compile("\ue000(\\d+)\ue001")
# What a template may change in a text: white space at the ends, letters, quotes, line breaks.
_HARD_TEXT = " \t\n\r\n{{ mIxEd }} {% raw %} \"'\\ <b>&amp; \u00e9\u4e2d\U0001f600 12  \n "
_NUM_COMPARED = 4
_MAX_SHAPES = 4096

_HARMLESS_FILTERS = {"tojson", "length", "count"}
_HARMLESS_CALLS = {"namespace", "range", "raise_exception", "strftime_now", "caller"}
_HARMLESS_METHODS = {"get", "items", "keys"}
_HARMLESS_TESTS = {"defined", "undefined", "none", "string", "mapping", "iterable", "sequence"}
_EXTENSIONS = ["jinja2.ext.loopcontrols", "jinja2.ext.do"]

_Shape = tuple[tuple[str, str], ...]


class SkeletonRenderer:
    """Renders conversations, by the short way where the template allows it.

    Args:
        template: The chat template, jinja.
        render: Renders messages in full.
    """

    def __init__(self, template: str, render: Render) -> None:
        self._render = render
        self._is_plain = writes_texts_unseen(template)
        self._pieces: dict[_Shape, list[str] | None] = {}
        self._compared: dict[_Shape, int] = {}

    @property
    def is_short(self) -> bool:
        """Whether any conversation goes the short way."""
        return self._is_plain

    def __call__(self, conversation: Conversation) -> str:
        """The text of a conversation."""
        texts = [
            part.text
            for message in conversation.messages
            for part in message.parts
            if isinstance(part, TextPart)
        ]
        if not self._is_plain or not all(texts):
            return self._render(chat_messages(conversation))
        shape = _shape_of(conversation)
        if shape not in self._pieces:
            self._pieces[shape] = self._make(conversation, len(texts))
        pieces = self._pieces[shape]
        if pieces is None:
            return self._render(chat_messages(conversation))
        short = "".join(_woven(pieces, texts))
        compared = self._compared.get(shape, 0)
        if compared < _NUM_COMPARED:
            full = self._render(chat_messages(conversation))
            if full != short:
                self._is_plain = False
                return full
            self._compared[shape] = compared + 1
        return short

    def _make(self, conversation: Conversation, num_texts: int) -> list[str] | None:
        if len(self._pieces) >= _MAX_SHAPES:
            return None
        marks = [_MARK.format(index) for index in range(num_texts)]
        found = _MARKS.split(self._render(_with_texts(conversation, marks)))
        pieces = found[::2]
        if found[1::2] != [str(index) for index in range(num_texts)]:
            return None
        hard = [_HARD_TEXT] * num_texts
        keeps = self._render(_with_texts(conversation, hard)) == "".join(_woven(pieces, hard))
        return pieces if keeps else None


def _with_texts(conversation: Conversation, texts: Sequence[str]) -> list[dict[str, Any]]:
    """The conversation as the chat template takes it, with other texts."""
    messages, waiting = chat_messages(conversation), iter(texts)
    for message in messages:
        for part in message["content"]:
            if part["type"] == "text":
                part["text"] = next(waiting)
    return messages


def chat_messages(conversation: Conversation) -> list[dict[str, Any]]:
    """The conversation as the chat template takes it, media named by their paths.

    Its boxes are text already (`sightline.data.boxes.write_boxes`).
    """
    return [
        {
            "role": message.role,
            "content": [
                {"type": "text", "text": part.text}
                if isinstance(part, TextPart)
                else {"type": "image", "image": str(part.path)}
                if isinstance(part, ImagePart)
                else {"type": "video", "video": _written(part)}
                for part in message.parts
                if isinstance(part, TextPart | ImagePart | VideoPart)
            ],
        }
        for message in conversation.messages
    ]


def _written(video: VideoPart) -> str | list[str]:
    return str(video.path) if video.frames is None else [str(path) for path in video.frames]


@cache
def writes_texts_unseen(template: str) -> bool:
    """Whether a template only writes texts, and never looks into one.

    >>> writes_texts_unseen("{% for m in messages %}{{ m.content[0].text }}{% endfor %}")
    True
    >>> writes_texts_unseen("{% for m in messages %}{{ m.content[0].text | trim }}{% endfor %}")
    False
    """
    try:
        tree = jinja2.Environment(extensions=_EXTENSIONS).parse(template)
    except jinja2.TemplateError:
        return False
    macros = {macro.name for macro in tree.find_all(nodes.Macro)}
    names = _names_of_texts(tree)
    for node in tree.find_all(nodes.Filter):
        if node.name not in _HARMLESS_FILTERS or _holds_text(node, names):
            return False
    for node in tree.find_all(nodes.Test):
        if node.name not in _HARMLESS_TESTS and _holds_text(node, names):
            return False
    for node in tree.find_all(nodes.Getitem):
        # Messages may be sliced, texts may not.
        if isinstance(node.arg, nodes.Slice) and _holds_text(node.node, names):
            return False
    if not all(_is_harmless_call(node, macros) for node in tree.find_all(nodes.Call)):
        return False
    return not any(_holds_text(node, names) for node in _compared_in(tree))


def _compared_in(tree: nodes.Template) -> list[nodes.Node]:
    compared: list[nodes.Node] = []
    for node in tree.find_all(nodes.Compare):
        compared.append(node.expr)
        compared.extend(operand.expr for operand in node.ops)
    return compared


def _names_of_texts(tree: nodes.Template) -> set[str]:
    """Names that a template gives to texts: ``{% set said = part.text %}``."""
    names: set[str] = set()
    assigned = [(node.target, node.node) for node in tree.find_all(nodes.Assign)]
    looped = [(node.target, node.iter) for node in tree.find_all(nodes.For)]
    macros = {macro.name: macro.args for macro in tree.find_all(nodes.Macro)}
    handed = [
        (parameter, value)
        for call in tree.find_all(nodes.Call)
        if isinstance(call.node, nodes.Name)
        for parameter in macros.get(call.node.name, [])
        for value in (*call.args, *call.kwargs)
    ]
    named = (*assigned, *looped, *handed)
    for _ in range(1 + len(named)):
        for target, value in named:
            if _holds_text(value, names):
                names.update(name.name for name in _within(target, nodes.Name))
    return names


def _holds_text(node: nodes.Node, names: set[str]) -> bool:
    return any(map(_is_of_text, _within(node, (nodes.Getattr, nodes.Getitem, nodes.Call)))) or any(
        name.name in names for name in _within(node, nodes.Name)
    )


def _within(node: nodes.Node, kinds: Any) -> list[Any]:
    """The node and those inside it, of some kinds."""
    found = list(node.find_all(kinds))
    return [node, *found] if isinstance(node, kinds) else found


def _is_of_text(node: nodes.Node) -> bool:
    if isinstance(node, nodes.Getattr):
        return node.attr == "text"
    if isinstance(node, nodes.Call):
        asked = node.args[0] if node.args else None
        is_get = isinstance(node.node, nodes.Getattr) and node.node.attr == "get"
        return is_get and isinstance(asked, nodes.Const) and asked.value == "text"
    if isinstance(node, nodes.Getitem):
        return isinstance(node.arg, nodes.Const) and node.arg.value == "text"
    return False


def _is_harmless_call(node: nodes.Call, macros: set[str]) -> bool:
    if isinstance(node.node, nodes.Name):
        return node.node.name in _HARMLESS_CALLS | macros
    return isinstance(node.node, nodes.Getattr) and node.node.attr in _HARMLESS_METHODS


def _shape_of(conversation: Conversation) -> _Shape:
    return tuple(
        (message.role, "".join(type(part).__name__[0] for part in message.parts))
        for message in conversation.messages
    )


def _woven(pieces: Sequence[str], texts: Sequence[str]) -> list[str]:
    woven = [""] * (len(pieces) + len(texts))
    woven[::2] = pieces
    woven[1::2] = texts
    return woven
