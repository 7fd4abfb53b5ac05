"""ShareGPT: declared and guessed names, text kept as it is, and its own faults."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from sightline.data.conversation import ImagePart, Message, Origin, TextPart, VideoPart
from sightline.data.formats import DeclaredShape, MediaFolder, RowContext, ShareGptShape, parse_row
from sightline.errors import DataError


@pytest.fixture
def context(tmp_path: Path) -> RowContext:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "c.mp4").write_bytes(b"video")
    origin = Origin(file=Path("train.json"), line=9, index=1)
    return RowContext(origin=origin, media=MediaFolder(root=tmp_path))


def turns(*pairs: tuple[str, str], names: tuple[str, str] = ("from", "value")) -> list[dict]:
    return [dict(zip(names, pair, strict=True)) for pair in pairs]


def refusal(given: dict, context: RowContext, shape: ShareGptShape | None = None) -> str:
    with pytest.raises(DataError) as caught:
        parse_row(given, context, DeclaredShape(format="sharegpt", sharegpt=shape))
    return str(caught.value)


def test_text_stays_as_it_is(tmp_path: Path, context: RowContext) -> None:
    given = {
        "conversations": turns(("human", "<image>\nWhat, and <video>\n"), ("gpt", "A.\n")),
        "images": ["a.png"],
        "videos": ["c.mp4"],
    }
    assert parse_row(given, context).messages == (
        Message(
            role="user",
            parts=(
                ImagePart(path=tmp_path / "a.png", field="images[0]"),
                TextPart(text="\nWhat, and "),
                VideoPart(path=tmp_path / "c.mp4", field="videos[0]"),
                TextPart(text="\n"),
            ),
            field="conversations[0]",
        ),
        Message(role="assistant", parts=(TextPart(text="A.\n"),), field="conversations[1]"),
    )


def test_messages_with_roles_are_guessed(context: RowContext) -> None:
    said = turns(("user", "Hi<image>"), ("assistant", "Hello"), names=("role", "content"))
    messages = parse_row({"messages": said, "images": ["a.png"]}, context).messages
    assert [(message.role, message.text) for message in messages] == [
        ("user", "Hi"),
        ("assistant", "Hello"),
    ]
    assert messages[0].field == "messages[0]"


def test_declared_names(context: RowContext) -> None:
    shape = ShareGptShape(
        messages="talk",
        images="pictures",
        videos=None,
        system="setting",
        role_tag="who",
        content_tag="says",
        user_tag="Q",
        assistant_tag="A",
        system_tag=None,
    )
    said = turns(("Q", "<image>?"), ("A", "Yes"), names=("who", "says"))
    given = {"talk": said, "pictures": ["a.png"], "setting": "Be short."}
    messages = parse_row(given, context, DeclaredShape(format="sharegpt", sharegpt=shape)).messages
    assert [(message.role, message.field) for message in messages] == [
        ("system", "setting"),
        ("user", "talk[0]"),
        ("assistant", "talk[1]"),
    ]
    assert refusal({"talk": turns(("system", "x"), names=("who", "says"))}, context, shape) == (
        "train.json:9: talk[0].who: the role 'system' is unknown.\nKnown here: Q, A."
    )


def test_system_turn_goes_before_the_system_field(context: RowContext) -> None:
    said = turns(("system", "First."), ("human", "Hi"), ("gpt", "Hello"))
    messages = parse_row({"conversations": said, "system": "Second."}, context).messages
    assert [message.text for message in messages] == ["First.", "Hi", "Hello"]


def test_an_empty_system_prompt_counts_as_none(context: RowContext) -> None:
    said = turns(("system", ""), ("human", "Hi"), ("gpt", "Hello"))
    messages = parse_row({"conversations": said, "system": ""}, context).messages
    assert [message.role for message in messages] == ["user", "assistant"]


def test_placeholder_without_a_declared_column(context: RowContext) -> None:
    shape = ShareGptShape(images=None)
    given = {"conversations": turns(("human", "<image>?"), ("gpt", "A")), "images": ["a.png"]}
    assert refusal(given, context, shape) == (
        "train.json:9: conversations[0].value: 1 <image> in the text, 0 files listed.\n"
        "Name the field that lists the files with columns.images."
    )


def test_video_as_a_list_of_pictures(context: RowContext) -> None:
    given = {
        "conversations": turns(("human", "<video>?"), ("gpt", "A")),
        "videos": [["a.png", "a.png"]],
    }
    [video] = parse_row(given, context).videos()
    assert [path.name for path in video.files] == ["a.png", "a.png"]


def test_missing_turns(context: RowContext) -> None:
    given = {"talk": [], "images": []}
    assert refusal(given, context, ShareGptShape()) == (
        "train.json:9: conversations: a list of turns expected, found only talk, images."
    )


def test_roles_of_tools_are_refused(context: RowContext) -> None:
    said = turns(("human", "Hi"), ("function_call", "{}"), ("observation", "1"), ("gpt", "A"))
    assert refusal({"conversations": said}, context) == (
        "train.json:9: conversations[1].from: the role 'function_call' is unknown.\n"
        "Known here: human, gpt, system."
    )
