from __future__ import annotations

from sightline.data.shapes.layouts import Exchange, MediaFile, dataset_info, write_row

ONE = MediaFile(kind="image", path="images/1.png")
TWO = MediaFile(kind="image", path="images/2.png")
CLIP = MediaFile(kind="video", path="videos/0.mp4")

SEVERAL = (
    Exchange(question=("First:", ONE, "Which colour?"), answer="Red."),
    Exchange(question=("Second:", TWO, "And here?"), answer="Blue."),
)
VIDEO = (Exchange(question=(CLIP, "Where to?"), answer="Up."),)


def test_official_rows() -> None:
    assert write_row(SEVERAL, "official") == {
        "image": ["images/1.png", "images/2.png"],
        "conversations": [
            {"from": "human", "value": "First:\n<image>\nWhich colour?"},
            {"from": "gpt", "value": "Red."},
            {"from": "human", "value": "Second:\n<image>\nAnd here?"},
            {"from": "gpt", "value": "Blue."},
        ],
    }
    assert write_row(VIDEO, "official") == {
        "video": "videos/0.mp4",
        "conversations": [
            {"from": "human", "value": "<video>\nWhere to?"},
            {"from": "gpt", "value": "Up."},
        ],
    }


def test_sharegpt_rows() -> None:
    assert write_row(SEVERAL, "sharegpt") == {
        "messages": [
            {"role": "user", "content": "First:<image>Which colour?"},
            {"role": "assistant", "content": "Red."},
            {"role": "user", "content": "Second:<image>And here?"},
            {"role": "assistant", "content": "Blue."},
        ],
        "images": ["images/1.png", "images/2.png"],
    }
    assert write_row(VIDEO, "sharegpt")["videos"] == ["videos/0.mp4"]


def test_openai_rows() -> None:
    assert write_row(VIDEO, "openai") == {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "video", "video": "videos/0.mp4"},
                    {"type": "text", "text": "Where to?"},
                ],
            },
            {"role": "assistant", "content": "Up."},
        ]
    }


def test_declaration_names_only_the_columns_there_are() -> None:
    declared = dataset_info("train.jsonl", ["image", "image"])["shapes"]
    assert declared == {
        "file_name": "train.jsonl",
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "images": "images"},
        "tags": {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
        },
    }
