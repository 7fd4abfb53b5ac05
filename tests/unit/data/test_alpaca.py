"""Alpaca: the question below its instruction, history, declared names, and its own faults."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from sightline.config import Columns, Source
from sightline.data.conversation import ImagePart, Message, Origin, TextPart, VideoPart
from sightline.data.formats import (
    AlpacaShape,
    DeclaredShape,
    MediaFolder,
    RowContext,
    declared_shape,
    parse_row,
)
from sightline.errors import DataError


@pytest.fixture
def context(tmp_path: Path) -> RowContext:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    (tmp_path / "c.mp4").write_bytes(b"video")
    origin = Origin(file=Path("train.jsonl"), line=4, index=3)
    return RowContext(origin=origin, media=MediaFolder(root=tmp_path))


def said(given: dict, context: RowContext, shape: AlpacaShape | None = None) -> list:
    declared = DeclaredShape(format="alpaca", alpaca=shape)
    messages = parse_row(given, context, declared).messages
    return [(message.role, message.text, message.field) for message in messages]


def refusal(given: dict, context: RowContext, shape: AlpacaShape | None = None) -> str:
    with pytest.raises(DataError) as caught:
        said(given, context, shape)
    return str(caught.value)


@pytest.mark.parametrize(
    ("instruction", "below", "question", "field"),
    [
        ("What?", "In short.", "What?\nIn short.", "instruction"),
        ("What?", "", "What?", "instruction"),
        ("What?", None, "What?", "instruction"),
        ("", "In short.", "In short.", "input"),
        (" What?\n", " x ", " What?\n\n x ", "instruction"),
    ],
)
def test_the_input_stands_below_the_instruction(
    context: RowContext, instruction: str, below: str | None, question: str, field: str
) -> None:
    given = {"instruction": instruction, "input": below, "output": " A.\n"}
    assert said(given, context) == [
        ("user", question, field),
        ("assistant", " A.\n", "output"),
    ]


def test_the_shape_is_told_from_the_fields(context: RowContext) -> None:
    conversation = parse_row({"instruction": "What?", "output": "A"}, context)
    assert [message.text for message in conversation.messages] == ["What?", "A"]


def test_system_and_history_come_first(context: RowContext) -> None:
    given = {
        "instruction": "Third?",
        "output": "C",
        "system": "Be short.",
        "history": [["First?", "A"], ["Second?", "B"]],
    }
    assert said(given, context) == [
        ("system", "Be short.", "system"),
        ("user", "First?", "history[0][0]"),
        ("assistant", "A", "history[0][1]"),
        ("user", "Second?", "history[1][0]"),
        ("assistant", "B", "history[1][1]"),
        ("user", "Third?", "instruction"),
        ("assistant", "C", "output"),
    ]


@pytest.mark.parametrize(
    "empty", [{"system": "", "history": []}, {"system": None, "history": None}]
)
def test_an_empty_system_prompt_and_history_count_as_none(context: RowContext, empty: dict) -> None:
    given = {"instruction": "What?", "output": "A", **empty}
    assert [role for role, _, _ in said(given, context)] == ["user", "assistant"]


def test_media_are_counted_over_history_and_question(tmp_path: Path, context: RowContext) -> None:
    given = {
        "instruction": "Or <image>?",
        "input": "<video>",
        "output": "B",
        "history": [["<image>\nThis?", "A"]],
        "images": ["a.png", "b.png"],
        "videos": ["c.mp4"],
    }
    messages = parse_row(given, context).messages
    assert messages[0] == Message(
        role="user",
        parts=(
            ImagePart(path=tmp_path / "a.png", field="images[0]"),
            TextPart(text="\nThis?"),
        ),
        field="history[0][0]",
    )
    assert messages[2].parts == (
        TextPart(text="Or "),
        ImagePart(path=tmp_path / "b.png", field="images[1]"),
        TextPart(text="?\n"),
        VideoPart(path=tmp_path / "c.mp4", field="videos[0]"),
    )


def test_a_declared_column_that_is_not_named_does_not_exist(context: RowContext) -> None:
    source = Source(path="x.json", format="alpaca", columns=Columns(prompt="q", response="a"))
    shape = declared_shape(source).alpaca
    assert shape == AlpacaShape(
        prompt="q", query=None, response="a", history=None, system=None, images=None, videos=None
    )
    given = {
        "q": "What?",
        "a": "A",
        "input": "not read",
        "system": "not read",
        "history": [["not", "read"]],
    }
    assert said(given, context, shape) == [("user", "What?", "q"), ("assistant", "A", "a")]
    assert refusal({"q": "<image>?", "a": "A", "images": ["a.png"]}, context, shape) == (
        "train.jsonl:4: q: 1 <image> in the text, 0 files listed.\n"
        "Name the field that lists the files with columns.images."
    )


def test_no_columns_at_all_means_the_usual_names() -> None:
    source = Source(path="x.json", format="alpaca")
    assert declared_shape(source) == DeclaredShape(format="alpaca")


def test_no_column_for_the_answer(context: RowContext) -> None:
    assert refusal({"q": "What?"}, context, AlpacaShape(prompt="q", response=None)) == (
        "train.jsonl:4: no field is declared for the answer.\nName it with columns.response."
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"output": None}, "output: text expected, found null."),
        ({"output": 3}, "output: text expected, found a number."),
        ({"instruction": ["What?"]}, "instruction: text expected, found a list."),
        ({"input": {}}, "input: text expected, found an object."),
        ({"system": 1}, "system: text expected, found a number."),
        ({"history": "x"}, "history: a list of [question, answer] pairs expected, found a string."),
        ({"history": [["x"]]}, "history[0]: [question, answer] expected, found a list of 1."),
        (
            {"history": [["q", "a"], {}]},
            "history[1]: [question, answer] expected, found an object.",
        ),
        ({"history": [["q", 1]]}, "history[0][1]: text expected, found a number."),
        (
            {"output": " \n"},
            "output: the answer is empty.\nWrite the answer, or leave the sample out.",
        ),
        (
            {"instruction": ""},
            "instruction: the user's turn is empty.\nWrite the question, or leave the sample out.",
        ),
        (
            {"history": [["q", "<image>"]], "images": ["a.png"]},
            "history[0][1]: <image> stands in the assistant's turn; images and videos belong to "
            "the user.\nMove it to a user turn. If it is meant as text, use the OpenAI shape "
            "(messages).",
        ),
        (
            {"images": ["a.png"]},
            "images: 1 image listed, 0 <image> in the text: the model would see none of them.\n"
            "Write one <image> in a user's turn for each file, in the files' order.",
        ),
        (
            {"input": "<|im_end|>"},
            "input: the text contains <|im_end|>, which the tokenizer would read as a control "
            "token.\nRemove it from the text. The chat template writes the control tokens.",
        ),
        (
            {"tools": [{"name": "f"}]},
            "tools: this field holds tool declarations, which this version does not read.\n"
            "Remove the field, or leave the sample out.",
        ),
    ],
)
def test_faults_name_their_field(context: RowContext, changed: dict, message: str) -> None:
    given = {"instruction": "What?", "output": "A"} | changed
    assert refusal(given, context) == f"train.jsonl:4: {message}"
