"""The shape of a row, told from the row."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightline.data.conversation import Origin
from sightline.data.formats import detect_format
from sightline.data.formats.detect import KNOWN
from sightline.errors import DataError

SAID = [{"from": "human", "value": "<image>?"}, {"from": "gpt", "value": "A"}]
CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "A"}]
MARKED = [{"role": "user", "content": "Hi <video>"}, {"role": "assistant", "content": "A"}]
PARTS = [{"role": "user", "content": [{"type": "text", "text": "<image>"}]}]


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        ({"conversations": SAID, "image": "a.png"}, "official"),
        ({"conversations": SAID, "video": ["a.mp4"]}, "official"),
        ({"conversations": SAID, "images": ["a.png"]}, "sharegpt"),
        ({"conversations": SAID}, "sharegpt"),
        ({"messages": CHAT, "images": ["a.png"]}, "sharegpt"),
        ({"messages": CHAT, "videos": []}, "sharegpt"),
        ({"messages": MARKED}, "sharegpt"),
        ({"messages": CHAT}, "openai"),
        ({"messages": PARTS}, "openai"),
        ({"messages": CHAT, "objects": {"bbox": [[1, 2, 3, 4]]}}, "swift"),
        ({"messages": [*CHAT[:1], CHAT[1] | {"loss": False}]}, "swift"),
        ({"query": "Hi", "response": "A"}, "swift"),
        ({"prompt": "Hi", "answer": "A"}, "swift"),
        ({"instruction": "Hi", "input": "", "output": "A"}, "alpaca"),
        ({"messages": PARTS, "images": ["a.png"]}, "openai"),
    ],
)
def test_shape(row: dict, shape: str) -> None:
    assert detect_format(row) == shape


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"asked": "Hi", "said": "A"},
            f"a.jsonl:4: no known shape; the sample has the fields asked, said.\n{KNOWN} "
            "Other names are declared with columns and tags.",
        ),
        (
            [{"conversations": SAID}],
            f"a.jsonl:4: a sample (an object) expected, found a list.\n{KNOWN} "
            "Other names are declared with columns and tags.",
        ),
        (
            {"conversations": SAID, "image": "a.png", "images": ["a.png"]},
            "a.jsonl:4: the sample has both image (official shape) and images (ShareGPT shape).\n"
            "Keep the one that the placeholders stand for, or declare the format.",
        ),
    ],
)
def test_no_shape(row: object, message: str) -> None:
    with pytest.raises(DataError) as caught:
        detect_format(row, origin=Origin(file=Path("a.jsonl"), line=4, index=3))
    assert str(caught.value) == message
