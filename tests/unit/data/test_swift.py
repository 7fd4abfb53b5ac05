"""ms-swift's rows: who is trained, placeholders that are missing, boxes, and its own faults.

The numbers of `test_boxes_are_those_of_ms_swift` were taken from ``Template.normalize_bbox`` of
ms-swift 4.6 with ``norm1000`` and, for a picture of 640 x 480 seen at 616 x 476, with ``none``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sightline.data.boxes import BoxWriting, write_boxes
from sightline.data.conversation import (
    BoxPart,
    Conversation,
    ImagePart,
    Origin,
    ReferencePart,
    TextPart,
)
from sightline.data.formats import DeclaredShape, MediaFolder, RowContext, parse_row
from sightline.data.media import PlannedImage
from sightline.errors import DataError

CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "A"}]

# Only boxes in the space of the resized picture look at the limits of the run.
UNUSED: Any = None


@pytest.fixture
def context(tmp_path: Path) -> RowContext:
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    for name in ("v.mp4", "w.mp4"):
        (tmp_path / name).write_bytes(b"video")
    origin = Origin(file=Path("train.jsonl"), line=2, index=1)
    return RowContext(origin=origin, media=MediaFolder(root=tmp_path))


def parsed(given: dict, context: RowContext) -> Conversation:
    return parse_row(given, context, DeclaredShape(format="swift"))


def said(given: dict, context: RowContext) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in parsed(given, context).messages]


def refusal(given: dict, context: RowContext) -> str:
    with pytest.raises(DataError) as caught:
        parsed(given, context)
    return str(caught.value)


def shown(conversation: Conversation, turn: int = 0) -> str:
    """The parts of a turn in a line, media by the names of their files."""
    parts = conversation.messages[turn].parts
    return "".join(
        part.text if isinstance(part, TextPart) else f"[{part.path.name}]" for part in parts
    )


def boxed(question: str, answer: str, objects: object, images: object = "a.png") -> dict:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "images": images, "objects": objects}


def test_loss_of_each_message(context: RowContext) -> None:
    messages = [
        {"role": "user", "content": "1?"},
        {"role": "assistant", "content": "A", "loss": False},
        {"role": "user", "content": "2?", "loss": False},
        {"role": "assistant", "content": "B", "loss": True},
        {"role": "user", "content": "3?"},
        {"role": "assistant", "content": "C", "loss_scale": 0},
        {"role": "user", "content": "4?"},
        {"role": "assistant", "content": "D", "loss_scale": 1.0},
        {"role": "user", "content": "5?"},
        {"role": "assistant", "content": "E", "loss": None},
    ]
    answers = parsed({"messages": messages}, context).messages[1::2]
    assert [(answer.text, answer.is_trained) for answer in answers] == [
        ("A", False),
        ("B", True),
        ("C", False),
        ("D", True),
        ("E", True),
    ]


@pytest.mark.parametrize(("loss", "found"), [(0.5, "0.5"), ("no", "a string"), (2, "2")])
def test_loss_that_is_neither_yes_nor_no(context: RowContext, loss: object, found: str) -> None:
    messages = [CHAT[0], CHAT[1] | {"loss": loss}]
    assert refusal({"messages": messages}, context) == (
        "train.jsonl:2: messages[1].loss: whether the turn is trained is true, false, 1 or 0, "
        f"found {found}.\nAn answer is trained or not; it has no weight in between here."
    )


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Which?", "[v.mp4][w.mp4][a.png][b.png][c.png]Which?"),
        ("<image>Hi <video>", "[v.mp4][a.png][b.png][c.png]Hi [w.mp4]"),
        ("<video><video> <image><image><image>", "[v.mp4][w.mp4] [a.png][b.png][c.png]"),
    ],
)
def test_missing_placeholders_go_to_the_front_of_the_first_question(
    context: RowContext, question: str, expected: str
) -> None:
    # Reference: Template._add_default_tags of ms-swift 4.6.
    messages = [{"role": "system", "content": "S"}, CHAT[0] | {"content": question}, CHAT[1]]
    given = {
        "messages": [*messages, *CHAT],
        "images": ["a.png", "b.png", "c.png"],
        "videos": ["v.mp4", "w.mp4"],
    }
    conversation = parsed(given, context)
    assert shown(conversation, 1) == expected
    assert shown(conversation, 3) == "Hi"


def test_a_placeholder_in_a_later_turn_counts(context: RowContext) -> None:
    messages = [*CHAT, CHAT[0] | {"content": "And <image>?"}, CHAT[1]]
    conversation = parsed({"messages": messages, "images": ["a.png", "b.png"]}, context)
    assert shown(conversation, 0) == "[a.png]Hi"
    assert shown(conversation, 2) == "And [b.png]?"


def test_more_placeholders_than_files(context: RowContext) -> None:
    messages = [CHAT[0] | {"content": "<image><image>"}, CHAT[1]]
    assert refusal({"messages": messages, "images": ["a.png"]}, context) == (
        "train.jsonl:2: images: 2 <image> in the text, 1 file listed.\n"
        "Write one <image> in a user's turn for each file, in the files' order."
    )


def test_boxes_and_references_are_filled_each_in_its_own_order(
    tmp_path: Path, context: RowContext
) -> None:
    objects = {
        "ref": ["sheep", "dog"],
        "bbox": [[90.9, 160.8, 135, 212.8], [3, 4], [0, 0, 1, 1]],
        "image_id": [0, 1],
    }
    given = boxed(
        "<image><image>Find <ref-object>, <bbox>", "<bbox><ref-object>: <bbox>", objects,
        ["a.png", "b.png"],
    )  # fmt: skip
    question, answer = parsed(given, context).messages
    assert question.parts == (
        ImagePart(path=tmp_path / "a.png", field="images[0]"),
        ImagePart(path=tmp_path / "b.png", field="images[1]"),
        TextPart(text="Find "),
        ReferencePart(text="sheep"),
        TextPart(text=", "),
        BoxPart(
            numbers=(90.9, 160.8, 135.0, 212.8), space="pixels", image=0, field="objects.bbox[0]"
        ),
    )
    assert answer.parts == (
        BoxPart(numbers=(3.0, 4.0), space="pixels", image=1, field="objects.bbox[1]"),
        ReferencePart(text="dog"),
        TextPart(text=": "),
        BoxPart(numbers=(0.0, 0.0, 1.0, 1.0), space="pixels", image=0, field="objects.bbox[2]"),
    )


@pytest.mark.parametrize(
    ("written", "space"), [("real", "pixels"), ("norm1", "unit"), (None, "pixels")]
)
def test_space_of_the_boxes(context: RowContext, written: str | None, space: str) -> None:
    objects = {"bbox": [[0, 0, 1, 1]], "bbox_type": written}
    [box] = parsed(boxed("?", "<bbox>", objects), context).messages[1].parts
    assert isinstance(box, BoxPart)
    assert (box.space, box.form) == (space, None)


@pytest.mark.parametrize(
    ("space", "boxes", "thousandths", "resized"),
    [
        (
            "real",
            [[90.9, 160.8, 135, 212.8], [0, 0, 640, 480], [360.9, 479.5], [320.5, 1.25, 321.5, 3]],
            [[142, 335, 211, 443], [0, 0, 1000, 1000], [564, 999], [501, 3, 502, 6]],
            [[87, 159, 130, 211], [0, 0, 616, 476], [347, 476], [308, 1, 309, 3]],
        ),
        (
            "norm1",
            [[0.1425, 0.33, 0.5005, 0.9995], [0.0005, 0.0015], [0.25, 0.5, 0.75, 1.0]],
            [[142, 330, 500, 1000], [0, 2], [250, 500, 750, 1000]],
            [[88, 157, 308, 476], [0, 1], [154, 238, 462, 476]],
        ),
    ],
)  # fmt: skip
def test_boxes_are_those_of_ms_swift(
    context: RowContext, space: str, boxes: list, thousandths: list, resized: list
) -> None:
    objects = {"bbox": boxes, "bbox_type": space}
    conversation = parsed(boxed("<image>?", " ".join(["<bbox>"] * len(boxes)), objects), context)
    [image] = conversation.images()
    plan = PlannedImage(part=image, height=480, width=640, resized=(476, 616), grid_thw=(1, 34, 44))
    for named, expected in (("thousandths", thousandths), ("resized_pixels", resized)):
        written = write_boxes(conversation, [plan], BoxWriting(space=named, text="list"), UNUSED)
        assert written.messages[1].text == " ".join(map(str, expected))


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        (
            {"bbox": [[1, 2, 3, 4]] * 2},
            "objects.bbox: 1 <bbox> in the text, 2 in objects.bbox.\n"
            "Write one <bbox> for each, in their order.",
        ),
        (
            {"ref": ["x"]},
            "objects.bbox: 1 <bbox> in the text, 0 in objects.bbox.\n"
            "Write one <bbox> for each, in their order.",
        ),
        (
            {"bbox": [[1, 2, 3, 4]], "ref": ["x"]},
            "objects.ref: 0 <ref-object> in the text, 1 in objects.ref.\n"
            "Write one <ref-object> for each, in their order.",
        ),
        (
            {"bbox": [[1, 2, 3]]},
            "objects.bbox[0]: [x1, y1, x2, y2] or [x, y] expected, finite numbers, found a list "
            "of 3.",
        ),
        (
            {"bbox": [[1, 2, 3, float("nan")]]},
            "objects.bbox[0]: [x1, y1, x2, y2] or [x, y] expected, finite numbers, found a list "
            "of 4.",
        ),
        (
            {"bbox": ["1,2,3,4"]},
            "objects.bbox[0]: [x1, y1, x2, y2] or [x, y] expected, finite numbers, found a string.",
        ),
        ({"bbox": "1"}, "objects.bbox: a list expected, found a string."),
        ({"bbox": [[1, 2]], "ref": "x"}, "objects.ref: a list expected, found a string."),
        (
            {"bbox": [[1, 2]], "ref": [None]},
            "objects.ref[0]: text expected, found null.",
        ),
        (
            {"bbox": [[1, 2]], "bbox_type": "norm1000"},
            "objects.bbox_type: the box type norm1000 is unknown.\nKnown: real, norm1.",
        ),
        (
            {"bbox": [[1, 2]], "image_id": [1]},
            "objects.image_id[0]: the box belongs to image 1, and the sample has 1 images.\n"
            "Images are counted from 0.",
        ),
        (
            {"bbox": [[1, 2]], "image_id": [True]},
            "objects.image_id[0]: the box belongs to image True, and the sample has 1 images.\n"
            "Images are counted from 0.",
        ),
        ({"bbox": [[1, 2]], "image_id": 0.5}, "objects.image_id: a list expected, found a number."),
        ([[1, 2]], "objects: an object expected, found a list."),
    ],
)
def test_faults_of_objects(context: RowContext, objects: object, message: str) -> None:
    assert refusal(boxed("?", "<bbox>", objects), context) == f"train.jsonl:2: {message}"


def test_without_objects_the_marks_are_text(context: RowContext) -> None:
    given = boxed("What does <bbox> mean?", "A <ref-object>.", None, None)
    assert said(given, context) == [
        ("user", "What does <bbox> mean?"),
        ("assistant", "A <ref-object>."),
    ]


@pytest.mark.parametrize(
    "query", ["query", "prompt", "input", "instruction", "question", "problem"]
)
@pytest.mark.parametrize("response", ["response", "answer", "output", "solution", "completion"])
def test_names_of_question_and_answer(context: RowContext, query: str, response: str) -> None:
    given = {query: "Hi", response: "A", "system_prompt": "S", "history": [["B?", "B"]]}
    assert said(given, context) == [
        ("system", "S"),
        ("user", "B?"),
        ("assistant", "B"),
        ("user", "Hi"),
        ("assistant", "A"),
    ]


def test_several_names_for_one_thing(context: RowContext) -> None:
    assert said({"query": "Hi", "question": "Other", "response": "A", "text": "B"}, context) == [
        ("user", "Hi"),
        ("assistant", "A"),
    ]
    assert refusal({"instruction": "Say it", "input": "Hi", "response": "A"}, context) == (
        "train.jsonl:2: input: input and instruction could each be the row's query.\n"
        "Call the right one query, or declare format alpaca with columns."
    )
    assert said({"instruction": "Say it", "input": "", "response": "A"}, context) == [
        ("user", "Say it"),
        ("assistant", "A"),
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"answer": "A"},
            "the row has neither messages nor a question.\n"
            "Known names: query, prompt, input, instruction, question, problem.",
        ),
        (
            {"query": "Hi"},
            "the row has neither messages nor an answer.\n"
            "Known names: response, answer, output, targets, target, answer_key.",
        ),
        ({"query": "Hi", "response": ["A"]}, "response: text expected, found a list."),
        (
            {"query": "Hi", "response": "A", "history": "[['a', 'b']]"},
            "history: a list of [question, answer] pairs expected, found a string.",
        ),
        (
            {"query": "Hi", "response": "A", "history": [["a"]]},
            "history[0]: [question, answer] expected.",
        ),
    ],
)
def test_faults_of_question_and_answer(context: RowContext, given: dict, message: str) -> None:
    assert refusal(given, context) == f"train.jsonl:2: {message}"


def test_names_inside_the_turns(context: RowContext) -> None:
    turns = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "A"}]
    assert said({"conversation": turns, "system": "S"}, context) == [
        ("system", "S"),
        ("user", "Hi"),
        ("assistant", "A"),
    ]
    messages = [{"role": "system", "content": "Own."}, *CHAT]
    assert said({"messages": messages, "system": "Field."}, context)[0] == ("system", "Own.")


@pytest.mark.parametrize("role", ["tool", "tool_call", "tool_response"])
def test_roles_of_tools_are_refused(context: RowContext, role: str) -> None:
    messages = [CHAT[0], {"role": role, "content": "{}"}, CHAT[1]]
    assert refusal({"messages": messages}, context) == (
        f"train.jsonl:2: messages[1].role: the role '{role}' is unknown.\n"
        "Known here: system, user, human, assistant, gpt."
    )
