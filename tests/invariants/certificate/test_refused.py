"""What cannot be verified is refused with one message."""

from __future__ import annotations

from typing import Any

import pytest

from sightline.errors import SightlineError
from sightline.records import read_json

# What cannot be verified.


def _cannot(copy: Any) -> str:
    """The one message; and no certificate of earlier says that the run holds."""
    with pytest.raises(SightlineError) as refused:
        copy.verify()
    if copy.run.certificate.exists():
        assert read_json(copy.run.certificate)["verdict"] == "fails"
    assert copy.run.read_state()["state"] != "verified"
    return str(refused.value)


def test_merged_weights_that_are_cut(copy: Any) -> None:
    assert copy.failing(copy.verify()) == set()
    weights = copy.run.merged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert str(copy.run.merged) in _cannot(copy)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_an_adapter_that_is_not_there(copy: Any, name: str) -> None:
    (copy.run.adapter / name).unlink()
    assert str(copy.run.adapter) in _cannot(copy)


def test_a_picture_that_was_moved(copy: Any) -> None:
    def move(record: dict[str, Any]) -> None:
        record["samples"][copy.picture]["messages"][0]["content"][0]["image"] = "/moved/a.png"

    copy.edit_json(copy.run.probe, move)
    assert "/moved/a.png" in _cannot(copy)


def test_a_base_that_was_moved(copy: Any) -> None:
    copy.edit_json(copy.run.probe, lambda record: record.update(base="/moved/base"))
    assert "/moved/base" in _cannot(copy)


def test_a_prompt_that_opens_the_answer_otherwise(copy: Any) -> None:
    """Whole conversations tokenize as in training; what is asked for an answer does not."""
    template = copy.run.merged / "chat_template.jinja"
    text = template.read_text(encoding="utf-8")
    opening = '"<|im_start|>assistant\\n"'
    assert text.count(opening) == 1
    template.write_text(text.replace(opening, '"<|im_start|>assistant\\n["'), encoding="utf-8")
    assert "two.jsonl:1: the prompt has" in _cannot(copy)
