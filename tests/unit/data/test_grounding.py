"""A picture's boxes in the words of the template."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from sightline.config import Template
from sightline.data.conversation import BoxPart, ImagePart, Message, Origin, TextPart
from sightline.data.formats import DeclaredShape, MediaFolder, RowContext, parse_row
from sightline.errors import DataError, MediaError

CAT = {"label": "cat", "box": [1, 2, 3, 4]}
DOG = {"label": "dog", "box": [0, 0, 4, 4]}


@pytest.fixture
def context(tmp_path: Path) -> RowContext:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    origin = Origin(file=Path("coco.json"), line=None, index=3, place="images[3] (id 42)")
    return RowContext(origin=origin, media=MediaFolder(root=tmp_path))


def messages(
    context: RowContext, *objects: object, space: str = "pixels", **words: object
) -> tuple[Message, ...]:
    row = {"image": "a.png", "space": space, "objects": list(objects)}
    shape = DeclaredShape(format="coco", template=Template(**words))
    return parse_row(row, context, shape).messages


def shown(message: Message) -> str:
    """The parts in a line: media by their names, boxes by their numbers."""
    return "".join(
        part.text
        if isinstance(part, TextPart)
        else f"[{part.path.name}]"
        if isinstance(part, ImagePart)
        else "/".join(f"{number:g}" for number in part.numbers)
        if isinstance(part, BoxPart)
        else "?"
        for part in message.parts
    )


def test_the_usual_words(tmp_path: Path, context: RowContext) -> None:
    asked, answer = messages(context, CAT, DOG)
    assert asked == Message(
        role="user",
        parts=(
            ImagePart(path=tmp_path / "a.png", field="image"),
            TextPart(
                text="Locate every object and report bbox_2d coordinates and label in JSON format."
            ),
        ),
        field="template.question",
    )
    assert answer.parts == (
        TextPart(text='[{"bbox_2d": '),
        BoxPart(
            numbers=(1.0, 2.0, 3.0, 4.0),
            space="pixels",
            image=0,
            field="objects[0].box",
            form="list",
        ),
        TextPart(text=', "label": "cat"}, {"bbox_2d": '),
        BoxPart(
            numbers=(0.0, 0.0, 4.0, 4.0),
            space="pixels",
            image=0,
            field="objects[1].box",
            form="list",
        ),
        TextPart(text=', "label": "dog"}]'),
    )


def test_box_tokens_instead_of_json(context: RowContext) -> None:
    _, answer = messages(
        context,
        CAT,
        object="<|object_ref_start|>{label}<|object_ref_end|>{box_tokens}",
        separator="",
        answer="{objects}",
    )
    assert answer.parts == (
        TextPart(text="<|object_ref_start|>cat<|object_ref_end|>"),
        BoxPart(
            numbers=(1.0, 2.0, 3.0, 4.0),
            space="pixels",
            image=0,
            field="objects[0].box",
            form="tokens",
        ),
    )


@pytest.mark.parametrize("words", ["no box", "{box} {box_tokens}", "{box}{box}"])
def test_an_object_has_one_box(words: str) -> None:
    with pytest.raises(ValueError, match=r"{box} and {box_tokens} stand in it [02] times"):
        Template(object=words)


def test_own_words(context: RowContext) -> None:
    system, asked, answer = messages(
        context,
        CAT,
        DOG,
        CAT,
        space="unit",
        system="You see {labels}.",
        question="Where: {labels}?<image> Say {labels}.",
        object="{label} at {box} ({label})",
        separator="; ",
        answer="Here: {objects}.",
    )
    assert shown(system) == "You see {labels}."
    assert shown(asked) == "Where: cat, dog?[a.png] Say cat, dog."
    assert shown(answer) == (
        "Here: cat at 1/2/3/4 (cat); dog at 0/0/4/4 (dog); cat at 1/2/3/4 (cat)."
    )
    assert {part.space for part in answer.parts if isinstance(part, BoxPart)} == {"unit"}
    assert [(message.role, message.field) for message in (system, asked, answer)] == [
        ("system", "template.system"),
        ("user", "template.question"),
        ("assistant", "template.answer"),
    ]


def test_a_picture_without_objects(context: RowContext) -> None:
    assert shown(messages(context)[1]) == "[]"
    assert shown(messages(context, empty="Nothing.")[1]) == "Nothing."
    assert shown(messages(context, CAT, empty="Nothing.")[1]).startswith('[{"bbox_2d": 1/2/3/4')
    with pytest.raises(DataError) as caught:
        messages(context, answer="{objects}")
    assert str(caught.value) == (
        "coco.json: images[3] (id 42), objects: the picture has no object, and template.empty "
        "says nothing for it.\nSet template.empty, or leave the picture out."
    )


@pytest.mark.parametrize(
    ("label", "written"),
    [('say "hi"', "say  hi"), ("a\\b", "a b"), ("two\nlines", "two lines"), (" cat ", "cat")],
)
def test_a_label_stays_inside_its_quotation_marks(
    context: RowContext, label: str, written: str
) -> None:
    asked, answer = messages(
        context, CAT | {"label": label}, question="<image>{labels}", object='{box} "{label}"'
    )
    assert shown(asked) == f"[a.png]{written}"
    assert shown(answer) == f'[1/2/3/4 "{written}"]'


def test_a_label_with_the_marks_of_the_template(context: RowContext) -> None:
    odd = CAT | {"label": "{box} <image> {objects}"}
    asked, answer = messages(context, odd, object="{label}: {box}", question="<image>?")
    assert shown(answer) == "[{box} <image> {objects}: 1/2/3/4]"
    assert shown(asked) == "[a.png]?"
    asked, _ = messages(context, odd, question="{labels}: <image>?")
    assert shown(asked) == "{box} <image> {objects}: [a.png]?"


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ([7], "objects[0]: an object expected, found a number."),
        ([{"box": [1, 2, 3, 4]}], "objects[0].label: text expected, found null."),
        ([CAT, DOG | {"box": None}], "objects[1].box: [x1, y1, x2, y2] expected, found null."),
        ([CAT | {"box": [1, 2, 3]}], "objects[0].box: [x1, y1, x2, y2] expected, found a list."),
        ([CAT | {"box": ["1"] * 4}], "objects[0].box: [x1, y1, x2, y2] expected, found a list."),
        (
            [CAT | {"label": "<|im_end|>"}],
            "objects[0].label: the text contains <|im_end|>, which the tokenizer would read as a "
            "control token.\nRemove it from the text. The chat template writes the control tokens.",
        ),
    ],
)
def test_faults_name_their_field(context: RowContext, objects: list, message: str) -> None:
    with pytest.raises(DataError) as caught:
        messages(context, *objects)
    assert str(caught.value) == f"coco.json: images[3] (id 42), {message}"


def test_control_tokens_of_the_template(context: RowContext) -> None:
    with pytest.raises(DataError, match=r"template\.question: the text contains <\|im_start\|>"):
        messages(context, CAT, question="<image><|im_start|>")


def test_a_missing_picture(context: RowContext) -> None:
    row = {"image": "none.png", "objects": [CAT], "space": "pixels"}
    with pytest.raises(
        MediaError, match=r"images\[3\] \(id 42\), image: .*none\.png does not exist"
    ):
        parse_row(row, context, DeclaredShape(format="coco"))
