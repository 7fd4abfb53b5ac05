"""Chat templates, to the letter."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import Qwen2Tokenizer

from sightline.model.tiny.template import QWEN2_TEMPLATE, QWEN3_TEMPLATE

TEMPLATES = {"qwen2_vl": QWEN2_TEMPLATE, "qwen2_5_vl": QWEN2_TEMPLATE, "qwen3_vl": QWEN3_TEMPLATE}
DEFAULT = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
SYSTEM = {"qwen2_vl": DEFAULT, "qwen2_5_vl": DEFAULT, "qwen3_vl": ""}
IMAGE = {"type": "image"}
VIDEO = {"type": "video"}

family = pytest.mark.parametrize("family", TEMPLATES)


def _text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def _turn(role: str, *content: Any) -> dict[str, Any]:
    return {"role": role, "content": list(content)}


def _render(family: str, *messages: dict[str, Any], **settings: Any) -> str:
    tokenizer: Any = Qwen2Tokenizer(vocab={"a": 0}, merges=[])
    return tokenizer.apply_chat_template(
        list(messages), chat_template=TEMPLATES[family], tokenize=False, **settings
    )


@family
@pytest.mark.parametrize(
    "content", ["Hi {there}\n  ", [{"type": "text", "text": "Hi {there}\n  "}]]
)
def test_text(family: str, content: Any) -> None:
    assert _render(family, {"role": "user", "content": content}) == (
        SYSTEM[family] + "<|im_start|>user\nHi {there}\n  <|im_end|>\n"
    )


@family
def test_image(family: str) -> None:
    assert _render(family, _turn("user", IMAGE, _text("What?"))) == (
        SYSTEM[family]
        + "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>What?<|im_end|>\n"
    )


@family
@pytest.mark.parametrize("part", [{"type": "image", "image": "x.png"}, {"image_url": "x.png"}])
def test_an_image_is_known_by_its_type_or_its_key(family: str, part: dict[str, str]) -> None:
    assert "<|vision_start|><|image_pad|><|vision_end|>" in _render(family, _turn("user", part))


@family
def test_video(family: str) -> None:
    assert _render(family, _turn("user", _text("Look: "), VIDEO, _text("."))) == (
        SYSTEM[family]
        + "<|im_start|>user\nLook: <|vision_start|><|video_pad|><|vision_end|>.<|im_end|>\n"
    )


@family
def test_a_system_turn_replaces_the_default(family: str) -> None:
    messages = (_turn("system", _text("Be brief.")), _turn("user", _text("Hi")))
    assert _render(family, *messages) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
    )


@family
def test_several_turns(family: str) -> None:
    messages = (
        _turn("user", IMAGE, _text("One?")),
        {"role": "assistant", "content": "Yes."},
        _turn("user", _text("Two?")),
        _turn("assistant", _text("No."), _text(" Never.")),
    )
    assert _render(family, *messages) == SYSTEM[family] + (
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>One?<|im_end|>\n"
        "<|im_start|>assistant\nYes.<|im_end|>\n"
        "<|im_start|>user\nTwo?<|im_end|>\n"
        "<|im_start|>assistant\nNo. Never.<|im_end|>\n"
    )


@family
def test_generation_prompt(family: str) -> None:
    assert _render(family, _turn("user", _text("Hi")), add_generation_prompt=True) == (
        SYSTEM[family] + "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


@family
def test_vision_ids_count_through_the_conversation(family: str) -> None:
    messages = (
        _turn("user", IMAGE, VIDEO),
        _turn("assistant", _text("A.")),
        _turn("user", VIDEO, VIDEO, IMAGE, _text("B?")),
    )
    video = "<|vision_start|><|video_pad|><|vision_end|>"
    assert _render(family, *messages, add_vision_id=True) == SYSTEM[family] + (
        "<|im_start|>user\nPicture 1: <|vision_start|><|image_pad|><|vision_end|>"
        f"Video 1: {video}<|im_end|>\n"
        "<|im_start|>assistant\nA.<|im_end|>\n"
        f"<|im_start|>user\nVideo 2: {video}Video 3: {video}"
        "Picture 2: <|vision_start|><|image_pad|><|vision_end|>B?<|im_end|>\n"
    )


def test_qwen2_puts_pictures_in_every_turn_and_qwen3_only_in_the_users() -> None:
    messages = (_turn("user", _text("Draw.")), _turn("assistant", IMAGE, _text("Here.")))
    pad = "<|vision_start|><|image_pad|><|vision_end|>"
    assert _render("qwen2_vl", *messages).endswith(f"assistant\n{pad}Here.<|im_end|>\n")
    assert _render("qwen3_vl", *messages).endswith("assistant\nHere.<|im_end|>\n")


def test_a_late_system_turn_is_kept_by_qwen2_and_passed_over_by_qwen3() -> None:
    messages = (_turn("user", _text("Hi")), _turn("system", _text("Stop.")))
    assert _render("qwen2_vl", *messages).endswith("<|im_start|>system\nStop.<|im_end|>\n")
    assert _render("qwen3_vl", *messages) == "<|im_start|>user\nHi<|im_end|>\n"
