"""OpenAI messages: parts in their order, every way to name a file, and its own faults."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from sightline.data.conversation import ImagePart, Message, Origin, TextPart, VideoPart
from sightline.data.formats import DeclaredShape, MediaFolder, RowContext, parse_row
from sightline.errors import DataError


@pytest.fixture
def context(tmp_path: Path) -> RowContext:
    Image.new("RGB", (4, 4)).save(tmp_path / "a b.png")
    (tmp_path / "c.mp4").write_bytes(b"video")
    origin = Origin(file=Path("chat.jsonl"), line=1, index=0)
    return RowContext(origin=origin, media=MediaFolder(root=tmp_path))


def asked(content: object) -> dict:
    return {
        "messages": [
            {"role": "user", "content": content},
            {"role": "assistant", "content": "Yes."},
        ]
    }


def refusal(given: dict, context: RowContext) -> str:
    with pytest.raises(DataError) as caught:
        parse_row(given, context, DeclaredShape(format="openai"))
    return str(caught.value)


def test_parts_keep_their_order_and_neighbouring_text_is_one(
    tmp_path: Path, context: RowContext
) -> None:
    content = [
        {"type": "text", "text": "Look: "},
        {"type": "image", "image": "a b.png", "text": None},
        {"type": "text", "text": "\nA "},
        {"type": "text", "text": ""},
        {"type": "text", "text": "<image>?"},
        {"type": "video", "video": "c.mp4"},
    ]
    assert parse_row(asked(content), context).messages[0] == Message(
        role="user",
        parts=(
            TextPart(text="Look: "),
            ImagePart(path=tmp_path / "a b.png", field="messages[0].content[1].image"),
            TextPart(text="\nA <image>?"),
            VideoPart(path=tmp_path / "c.mp4", field="messages[0].content[5].video"),
        ),
        field="messages[0]",
    )


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ({"type": "image", "path": "a b.png"}, "path"),
        ({"type": "image", "url": "file://{root}/a b.png"}, "url"),
        ({"type": "image", "url": "file://{root}/a%20b.png"}, "url"),
        ({"type": "image", "url": "file://localhost{root}/a%20b.png"}, "url"),
        ({"type": "image_url", "image_url": {"url": "a b.png"}}, "image_url.url"),
        ({"type": "image_url", "image_url": "{root}/a b.png"}, "image_url"),
    ],
)
def test_ways_to_name_an_image(tmp_path: Path, context: RowContext, part: dict, field: str) -> None:
    filled = {
        name: value.replace("{root}", str(tmp_path)) if isinstance(value, str) else value
        for name, value in part.items()
    }
    [image] = parse_row(asked([filled, {"type": "text", "text": "?"}]), context).images()
    assert image == ImagePart(path=tmp_path / "a b.png", field=f"messages[0].content[0].{field}")


def test_a_placeholder_is_text_in_declared_openai_messages(context: RowContext) -> None:
    given = asked("What does the <video> tag do?")
    conversation = parse_row(given, context, DeclaredShape(format="openai"))
    assert conversation.messages[0].text == "What does the <video> tag do?"


def test_unknown_type(context: RowContext) -> None:
    assert refusal(asked([{"type": "input_audio"}]), context) == (
        "chat.jsonl:1: messages[0].content[0].type: the type 'input_audio' is unknown.\n"
        "Known types: text, image, image_url, video, video_url."
    )


def test_part_without_a_file(context: RowContext) -> None:
    assert refusal(asked([{"type": "image"}]), context) == (
        "chat.jsonl:1: messages[0].content[0]: one field that names the file expected, found none."
        "\nGive one of image, path, url, image_url."
    )


def test_option_of_a_single_image(context: RowContext) -> None:
    part = {"type": "image", "image": "a b.png", "max_pixels": 50176}
    assert refusal(asked([part]), context) == (
        "chat.jsonl:1: messages[0].content[0].max_pixels: this option of a single image or video "
        "is not read by this version.\n"
        "Remove it. Pixels and frames are set for the whole run, under data."
    )


def test_image_in_an_answer(context: RowContext) -> None:
    given = asked("Hi")
    given["messages"][1]["content"] = [{"type": "image", "image": "a b.png"}]
    assert refusal(given, context) == (
        "chat.jsonl:1: messages[1].content[0]: an image stands in the assistant's turn; images "
        "and videos belong to the user.\nMove it to a user turn."
    )


def test_address_on_a_network(context: RowContext) -> None:
    part = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    assert refusal(asked([part]), context) == (
        "chat.jsonl:1: messages[0].content[0].image_url.url: 'https://example.com/a.png': the "
        "host example.com is not named in url_hosts, so it is not asked.\n"
        "Add url_hosts: [example.com] beside the data file's path, or save the file and name that."
    )


def test_files_beside_the_messages(context: RowContext) -> None:
    assert refusal(asked([{"type": "text", "text": "?"}]) | {"images": ["a b.png"]}, context) == (
        "chat.jsonl:1: images: 1 listed beside the messages, 0 parts of type image without a path "
        "to take them.\n"
        'Write one {"type": "image"} part for each file, or name each file in its part.'
    )


def test_unknown_role_and_tool_calls(context: RowContext) -> None:
    given = asked("Hi")
    given["messages"][0]["role"] = "tool"
    assert refusal(given, context) == (
        "chat.jsonl:1: messages[0].role: the role 'tool' is unknown.\n"
        "Known here: user, assistant, system."
    )
    given = asked("Hi")
    given["messages"][1]["weight"] = 0
    assert refusal(given, context) == (
        "chat.jsonl:1: messages[1]: no answer is trained: every one of them says so.\n"
        "Leave the sample out, or let one answer be trained."
    )
    given["messages"][1]["weight"] = 0.5
    assert refusal(given, context) == (
        "chat.jsonl:1: messages[1].weight: whether the turn is trained is true, false, 1 or 0, "
        "found 0.5.\nAn answer is trained or not; it has no weight in between here."
    )


def test_a_video_as_a_list_of_pictures_in_qwens_own_spelling(
    tmp_path: Path, context: RowContext
) -> None:
    part = {"type": "video", "video": ["a b.png", "a b.png"], "sample_fps": 0.5, "text": None}
    [video] = parse_row(asked([part, {"type": "text", "text": "?"}]), context).videos()
    assert video == VideoPart(
        path=tmp_path / "a b.png",
        field="messages[0].content[0].video",
        frames=(tmp_path / "a b.png",) * 2,
        frame_fps=0.5,
    )
    assert refusal(asked([{**part, "max_pixels": 9}]), context) == (
        "chat.jsonl:1: messages[0].content[0].video: max_pixels beside a list of frames is not "
        "read.\nKnown: frames, times, fps."
    )
