"""The short way of rendering gives what the template gives, or is not taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoProcessor

from sightline.data.conversation import (
    Conversation,
    ImagePart,
    Message,
    Origin,
    TextPart,
    VideoPart,
)
from sightline.data.skeleton import SkeletonRenderer, chat_messages, writes_texts_unseen

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
IMAGE = ImagePart(path=Path("/a.png"), field="images[0]")
VIDEO = VideoPart(path=Path("/v.mp4"), field="videos[0]")
AWKWARD = (
    "{{ messages }}{% raw %}{# x #}",
    "\ue000" + "0\ue001",
    "\ue0001\ue001\ue000",
    "\ue001\ue000",
    "\n\n two \r\n",
    " spaces ",
    "\"quotes\" 'and' \\back",
    "<|image_pad|>",
    "é中😀",
)
EVERY_TEXT = "{% for m in messages %}{% for p in m.content %}HERE{% endfor %};{% endfor %}"


class Counted:
    """A template of jinja that counts how often it is rendered."""

    def __init__(self, template: str) -> None:
        environment = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"])
        self._template = environment.from_string(template)
        self.calls = 0

    def __call__(self, messages: Sequence[dict[str, Any]]) -> str:
        self.calls += 1
        return self._template.render(messages=messages)


def talk(*turns: Sequence[object]) -> Conversation:
    """User and assistant in turns, strings as text."""
    messages = tuple(
        Message(
            role="assistant" if index % 2 else "user",
            parts=tuple(TextPart(text=p) if isinstance(p, str) else p for p in parts),
            field=f"messages[{index}]",
        )
        for index, parts in enumerate(turns)
    )
    return Conversation(messages=messages, origin=Origin(file=Path("a"), line=1, index=0))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_short_way_of_a_family_equals_the_full_one(
    family: str, tiny_folder: Callable[[str], Path]
) -> None:
    processor = AutoProcessor.from_pretrained(tiny_folder(family))

    calls = 0

    def render(messages: Sequence[dict[str, Any]]) -> str:
        nonlocal calls
        calls += 1
        return processor.apply_chat_template(list(messages), tokenize=False)

    rendered = SkeletonRenderer(processor.chat_template, render)
    assert rendered.is_short
    conversations = [
        talk([IMAGE, question, VIDEO, "!"], [answer], [question + answer], ["B"])
        for question in ("Which?", *AWKWARD)
        for answer in ("A", *AWKWARD)
    ]
    for conversation in conversations:
        expected = processor.apply_chat_template(chat_messages(conversation), tokenize=False)
        assert rendered(conversation) == expected
    assert rendered.is_short
    assert calls == 2 + 4, "a shape is tried twice and compared four times, then put together"


@settings(max_examples=100, deadline=None)
@given(said=st.lists(st.text(max_size=8), min_size=2, max_size=5))
def test_any_text(said: list[str]) -> None:
    render = Counted(EVERY_TEXT.replace("HERE", "[{{ p.text }}]"))
    rendered = SkeletonRenderer(EVERY_TEXT.replace("HERE", "[{{ p.text }}]"), render)
    for text in said:
        assert rendered(talk([text], ["A", text])) == f"[{text}];[A][{text}];"
    assert rendered.is_short


def test_an_empty_text_is_rendered_in_full() -> None:
    template = EVERY_TEXT.replace("HERE", "{% if p.text %}{{ p.text }}{% else %}none{% endif %}")
    rendered = SkeletonRenderer(template, Counted(template))
    for _ in range(6):
        assert rendered(talk(["x"], ["y"])) == "x;y;"
        assert rendered(talk(["x"], [""])) == "x;none;"


@pytest.mark.parametrize(
    "written",
    [
        "{{ p.text | trim }}",
        "{{ p['text'] | upper }}",
        "{{ p.text.strip() }}",
        "{{ p.text.split('a')[-1] }}",
        "{{ p.text[1:] }}",
        "{{ p.text | tojson }}",
        "{{ p.text | length }}",
        "{% if p.text == 'x' %}y{% else %}{{ p.text }}{% endif %}",
        "{% if 'x' in p['text'] %}y{% else %}{{ p.text }}{% endif %}",
        "{% set t = p.text %}{% if t == 'x' %}y{% else %}{{ t }}{% endif %}",
        "{% set t = p.text %}{% set u = t ~ '' %}{% if u != 'x' %}{{ u }}{% endif %}",
        "{% if p.get('text') == 'x' %}y{% endif %}{{ p.text }}",
        "{% macro f(a) %}{{ a[:90] }}{% endmacro %}{{ f(p.text) }}",
        "{% if p.text is upper %}y{% endif %}{{ p.text }}",
        "{% for c in p.text %}{% if c != ' ' %}{{ c }}{% endif %}{% endfor %}",
        "{{ unknown(p.text) }}",
        "{{ p.text",
    ],
)
def test_a_template_that_looks_into_texts(written: str) -> None:
    assert not writes_texts_unseen(EVERY_TEXT.replace("HERE", written))


@pytest.mark.parametrize(
    "written",
    [
        "{{ p.text }}",
        "{{ p['text'] ~ '\n' }}",
        "{% if p.type == 'text' and 'text' in p %}{{ p.text }}{% endif %}",
        "{% if m.content is string %}{{ m.content }}{% else %}{{ p.text }}{% endif %}",
        "{% if p.text is defined %}{{ p.text }}{% endif %}",
        "{% if messages | length > 1 and messages[1:] %}{{ p.get('text') }}{% endif %}",
        "{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}{{ p.text }}",
        "{% set ns = namespace(n=0) %}{% set ns.n = ns.n + 1 %}{{ p.text }}",
    ],
)
def test_a_template_that_only_writes_texts(written: str) -> None:
    template = EVERY_TEXT.replace("HERE", written)
    assert writes_texts_unseen(template)


@pytest.mark.parametrize(
    "written",
    [
        "{{ [p.text] | tojson }}",
        "{{ p | tojson }}",
        "{% for k, v in p.items() %}{{ v.strip() }}{% endfor %}",
        "{{ p.text.strip() }}",
        "{{ p.text | trim }}",
        "{{ p.text }}{{ p.text }}",
        "{{ '\ue0000\ue001' ~ p.text }}",
        "{{ p.text | e }}",
        "x",
    ],
)
def test_a_text_that_does_not_stay_as_it_is_goes_the_full_way(written: str) -> None:
    template = EVERY_TEXT.replace("HERE", written)
    rendered = SkeletonRenderer(template, Counted(template))
    for text in ("plain", "words", "only", "here", "again", ' "\n<x> ', *AWKWARD):
        conversation = talk([text], ["A"])
        expected = Counted(template)(chat_messages(conversation))
        assert rendered(conversation) == expected


def test_a_conversation_that_differs_turns_the_short_way_off() -> None:
    # A length that only arithmetic on two texts reaches: no filter, no comparison with a text.
    template = EVERY_TEXT.replace("HERE", "{{ p.text }}")
    full = Counted(template)

    def render(messages: Sequence[dict[str, Any]]) -> str:
        return full(messages).replace("secret", "other")

    rendered = SkeletonRenderer(template, render)
    assert rendered(talk(["x"], ["y"])) == "x;y;"
    assert rendered.is_short
    assert rendered(talk(["secret"], ["y"])) == "other;y;"
    assert not rendered.is_short
    before = full.calls
    assert rendered(talk(["z"], ["y"])) == "z;y;"
    assert full.calls == before + 1


def test_roles_and_kinds_of_parts_make_a_shape_of_their_own() -> None:
    template = "{% for m in messages %}{{ m.role }}:" + EVERY_TEXT.split("%}", 1)[1].replace(
        "HERE", "{% if p.type == 'text' %}{{ p.text }}{% else %}<{{ p.type }}>{% endif %}"
    )
    rendered = SkeletonRenderer(template, Counted(template))
    for _ in range(6):
        assert rendered(talk(["a", IMAGE], ["b"])) == "user:a<image>;assistant:b;"
        assert rendered(talk([IMAGE, "a"], ["b"])) == "user:<image>a;assistant:b;"
        assert rendered(talk([VIDEO, "a"], ["b"])) == "user:<video>a;assistant:b;"
