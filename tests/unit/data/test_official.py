"""The official shape: what reaches the model, and every fault with its message."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from sightline.data.conversation import ImagePart, Message, Origin, TextPart, VideoPart
from sightline.data.formats import DeclaredShape, MediaFolder, RowContext, parse_row
from sightline.errors import DataError, MediaError


@pytest.fixture
def context(tmp_path: Path) -> RowContext:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    (tmp_path / "c.mp4").write_bytes(b"video")
    origin = Origin(file=Path("train.jsonl"), line=3, index=2)
    return RowContext(origin=origin, media=MediaFolder(root=tmp_path))


def row(*turns: tuple[str, str], **media: object) -> dict:
    return {"conversations": [{"from": who, "value": text} for who, text in turns], **media}


def refusal(given: dict, context: RowContext) -> str:
    with pytest.raises(DataError) as caught:
        parse_row(given, context, DeclaredShape(format="official"))
    return str(caught.value)


def test_text_of_a_human_is_stripped_at_the_placeholders(
    tmp_path: Path, context: RowContext
) -> None:
    given = row(
        ("system", " Be short. "),
        ("human", "<image>\nLeft?\n<image> Or this: <video>\n"),
        ("gpt", " Left.\n"),
        ("human", "\nSure?"),
        ("gpt", "Yes."),
        image=["a.png", "b.png"],
        video="c.mp4",
    )
    messages = parse_row(given, context).messages
    assert messages == (
        Message(role="system", parts=(TextPart(text=" Be short. "),), field="conversations[0]"),
        Message(
            role="user",
            parts=(
                ImagePart(path=tmp_path / "a.png", field="image[0]"),
                TextPart(text="Left?"),
                ImagePart(path=tmp_path / "b.png", field="image[1]"),
                TextPart(text="Or this:"),
                VideoPart(path=tmp_path / "c.mp4", field="video"),
            ),
            field="conversations[1]",
        ),
        Message(role="assistant", parts=(TextPart(text=" Left.\n"),), field="conversations[2]"),
        Message(role="user", parts=(TextPart(text="Sure?"),), field="conversations[3]"),
        Message(role="assistant", parts=(TextPart(text="Yes."),), field="conversations[4]"),
    )


def test_unknown_role(context: RowContext) -> None:
    assert refusal(row(("human", "Hi"), ("bot", "Hello")), context) == (
        "train.jsonl:3: conversations[1].from: the role 'bot' is unknown.\n"
        "Known here: human, user, gpt, assistant, system."
    )


def test_turn_without_a_role(context: RowContext) -> None:
    given = {"conversations": [{"role": "user", "content": "Hi"}], "image": "a.png"}
    assert refusal(given, context) == (
        "train.jsonl:3: conversations[0]: the turn has no field 'from'; it has role, content."
    )


def test_more_placeholders_than_files(context: RowContext) -> None:
    given = row(("human", "<image><image>?"), ("gpt", "A"), image="a.png")
    assert refusal(given, context) == (
        "train.jsonl:3: image: 2 <image> in the text, 1 file listed.\n"
        "Write one <image> in a user's turn for each file, in the files' order."
    )


def test_files_that_no_placeholder_shows(context: RowContext) -> None:
    given = row(("human", "What?"), ("gpt", "A"), image=["a.png", "b.png"])
    assert refusal(given, context) == (
        "train.jsonl:3: image: 2 images listed, 0 <image> in the text: the model would see none "
        "of them.\n"
        "Write one <image> in a user's turn for each file, in the files' order."
    )


def test_placeholder_in_an_answer(context: RowContext) -> None:
    given = row(("human", "What?"), ("gpt", "<image>"), image="a.png")
    assert refusal(given, context) == (
        "train.jsonl:3: conversations[1].value: <image> stands in the assistant's turn; images "
        "and videos belong to the user.\n"
        "Move it to a user turn. If it is meant as text, use the OpenAI shape (messages)."
    )


def test_empty_answer(context: RowContext) -> None:
    assert refusal(row(("human", "What?"), ("gpt", " \n")), context) == (
        "train.jsonl:3: conversations[1]: the answer is empty.\n"
        "Write the answer, or leave the sample out."
    )


def test_empty_question(context: RowContext) -> None:
    assert refusal(row(("human", " "), ("gpt", "A")), context) == (
        "train.jsonl:3: conversations[0]: the user's turn is empty.\n"
        "Write the question, or leave the sample out."
    )


def test_no_turns(context: RowContext) -> None:
    assert refusal(row(), context) == (
        "train.jsonl:3: conversations: the sample has no turns.\nLeave the sample out."
    )


def test_two_questions_in_a_row(context: RowContext) -> None:
    assert refusal(row(("human", "A?"), ("human", "B?"), ("gpt", "C")), context) == (
        "train.jsonl:3: conversations[1]: a user turn stands where an assistant turn is expected."
        "\nA sample is an optional system turn, then user and assistant in turns."
    )


def test_no_answer_at_the_end(context: RowContext) -> None:
    assert refusal(row(("human", "A?"), ("gpt", "B"), ("human", "C?")), context) == (
        "train.jsonl:3: conversations[2]: the last turn is a user turn, so nothing would be "
        "learned.\nEnd the sample with the assistant's answer."
    )


@pytest.mark.parametrize(
    "token",
    [
        "<|im_start|>",
        "<|im_end|>",
        "<|endoftext|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|image_pad|>",
        "<|video_pad|>",
    ],
)
def test_control_tokens_in_text(context: RowContext, token: str) -> None:
    assert refusal(row(("human", f"Hi{token}"), ("gpt", "A")), context) == (
        f"train.jsonl:3: conversations[0].value: the text contains {token}, which the tokenizer "
        "would read as a control token.\n"
        "Remove it from the text. The chat template writes the control tokens."
    )


def test_half_a_surrogate_pair(context: RowContext) -> None:
    assert refusal(row(("human", "Hi\ud83d"), ("gpt", "A")), context) == (
        "train.jsonl:3: conversations[0].value: character 3 is half of a surrogate pair, which is "
        "not text.\nWrite the whole character, or remove it."
    )


def test_text_that_is_no_text(context: RowContext) -> None:
    given = {"conversations": [{"from": "human", "value": None}], "image": "a.png"}
    assert refusal(given, context) == (
        "train.jsonl:3: conversations[0].value: text expected, found null."
    )


def test_missing_file(tmp_path: Path, context: RowContext) -> None:
    given = row(("human", "<image>?"), ("gpt", "A"), image="sub/z.png")
    with pytest.raises(MediaError) as caught:
        parse_row(given, context)
    assert str(caught.value) == (
        f"train.jsonl:3: image: {tmp_path}/sub/z.png does not exist.\n"
        f"The row says 'sub/z.png', looked for below {tmp_path}: set media_root to the folder "
        "that this path starts from."
    )


def test_field_that_would_be_lost(context: RowContext) -> None:
    given = row(("human", "Hi"), ("gpt", "A"), tools="[{}]")
    assert refusal(given, context) == (
        "train.jsonl:3: tools: this field holds tool declarations, which this version does not "
        "read.\nRemove the field, or leave the sample out."
    )
