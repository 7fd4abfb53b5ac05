"""Boxes as text: the writing of each family, the picture's own size, and every fault."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps

from sightline.data.boxes import BoxWriting, has_boxes, in_file_pixels, write_boxes
from sightline.data.conversation import (
    BoxPart,
    Conversation,
    ImagePart,
    Message,
    Origin,
    Part,
    ReferencePart,
    TextPart,
)
from sightline.data.media import PlannedImage
from sightline.errors import DataError
from sightline.families import trainable_family_of

TOKENS = BoxWriting(space="thousandths", text="tokens")
PIXELS = BoxWriting(space="resized_pixels", text="list")
LIST = BoxWriting(space="thousandths", text="list")

# Only boxes in the space of the resized picture look at the limits of the run.
UNUSED: Any = None


def picture(width: int, height: int, resized: tuple[int, int]) -> PlannedImage:
    part = ImagePart(path=Path("/a.png"), field="images[0]")
    return PlannedImage(part=part, height=height, width=width, resized=resized, grid_thw=(1, 2, 2))


# 200 x 100 pixels in the file, seen at 84 x 56.
WIDE = picture(200, 100, (56, 84))
TALL = picture(10, 1000, (560, 28))


def box(*numbers: float, space: str = "pixels", image: int = 0, form: Any = None) -> BoxPart:
    return BoxPart(
        numbers=numbers,
        space="unit" if space == "unit" else "pixels",
        image=image,
        field="objects.bbox[0]",
        form=form,
    )


def answered(*parts: Part) -> Conversation:
    messages = (
        Message(role="user", parts=(TextPart(text="?"),), field="messages[0]"),
        Message(role="assistant", parts=parts, field="messages[1]", is_trained=False),
    )
    return Conversation(messages=messages, origin=Origin(file=Path("a.jsonl"), line=5, index=4))


def written(
    writing: BoxWriting, *parts: Part, images: tuple[PlannedImage, ...] = (WIDE, TALL)
) -> str:
    return write_boxes(answered(*parts), images, writing, UNUSED).messages[1].text


@pytest.mark.parametrize(
    ("model_type", "writing", "of_a_box", "of_a_point", "of_a_name"),
    [
        (
            "qwen2_vl",
            TOKENS,
            "<|box_start|>(50,200),(500,1000)<|box_end|>",
            "<|box_start|>(250,500)<|box_end|>",
            "<|object_ref_start|>a dog<|object_ref_end|>",
        ),
        ("qwen2_5_vl", PIXELS, "[4, 11, 42, 56]", "[21, 28]", "a dog"),
        ("qwen3_vl", LIST, "[50, 200, 500, 1000]", "[250, 500]", "a dog"),
    ],
)
def test_writing_of_each_family(
    model_type: str, writing: BoxWriting, of_a_box: str, of_a_point: str, of_a_name: str
) -> None:
    assert BoxWriting.of(trainable_family_of(model_type, source="test")) == writing
    assert written(writing, box(10, 20, 100, 100)) == of_a_box
    assert written(writing, box(0.05, 0.2, 0.5, 1, space="unit")) == of_a_box
    assert written(writing, box(50, 50)) == of_a_point
    assert written(writing, ReferencePart(text="a dog")) == of_a_name


@pytest.mark.parametrize(
    ("writing", "text"),
    [
        (TOKENS, '{"bbox_2d": [50, 200, 500, 1000]}'),
        (PIXELS, '{"bbox_2d": [4, 11, 42, 56]}'),
        (LIST, '{"bbox_2d": [50, 200, 500, 1000]}'),
    ],
)
def test_a_box_inside_json_is_a_list_everywhere(writing: BoxWriting, text: str) -> None:
    parts = (TextPart(text='{"bbox_2d": '), box(10, 20, 100, 100, form="list"), TextPart(text="}"))
    assert written(writing, *parts) == text


@pytest.mark.parametrize(
    ("writing", "text"),
    [
        (TOKENS, "<|box_start|>(50,200),(500,1000)<|box_end|>"),
        (PIXELS, "<|box_start|>(4,11),(42,56)<|box_end|>"),
        (LIST, "<|box_start|>(50,200),(500,1000)<|box_end|>"),
    ],
)
def test_a_template_may_ask_for_box_tokens(writing: BoxWriting, text: str) -> None:
    assert written(writing, box(10, 20, 100, 100, form="tokens")) == text


def test_thousandths_of_the_longer_side() -> None:
    """200 x 100 pixels: the picture ends at 1000 across and at 500 down."""
    part = replace(box(50, 100, 500, 500), space="longest")
    assert written(LIST, part) == "[50, 200, 500, 1000]"
    with pytest.raises(DataError, match=r"outside its picture of 1000 x 500 \(thousandths of the"):
        written(LIST, replace(part, numbers=(0.0, 0.0, 500.0, 600.0)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_on_stored_pixels_turns_with_its_picture(orientation: int, tmp_path: Path) -> None:
    """A white block in the file is where its box is when the picture is shown."""
    stored = Image.new("L", (40, 60))
    stored.paste(255, (4, 9, 16, 33))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    stored.save(path, exif=exif)
    shown = ImageOps.exif_transpose(Image.open(path))
    image = replace(
        picture(shown.width, shown.height, (56, 84)), part=ImagePart(path=path, field="image")
    )
    part = replace(box(4, 9, 16, 33), is_stored=True)
    assert in_file_pixels(part, image, UNUSED) == pytest.approx(shown.getbbox())
    said = written(LIST, part, images=(image,))
    left, top, right, bottom = shown.getbbox() or ()
    wanted = [left / shown.width, top / shown.height, right / shown.width, bottom / shown.height]
    assert json.loads(said) == [round(1000 * share) for share in wanted]
    reversed_ = replace(part, numbers=(16.0, 33.0, 4.0, 9.0))
    with pytest.raises(DataError, match="out of order"):
        written(LIST, reversed_, images=(image,))


def test_a_box_is_written_by_the_size_of_its_own_picture() -> None:
    assert written(PIXELS, box(5, 500, 10, 1000, image=1)) == "[14, 280, 28, 560]"
    assert written(LIST, box(5, 500, 10, 1000, image=1)) == "[500, 500, 1000, 1000]"


@pytest.mark.parametrize(
    ("x", "thousandths", "pixels"),
    [(0.1, 0, 0), (0.3, 2, 0), (1.2, 6, 1), (100.1, 500, 42), (199.9, 1000, 84), (3.5714, 18, 1)],
)
def test_rounding(x: float, thousandths: int, pixels: int) -> None:
    assert written(LIST, box(x, 0)) == f"[{thousandths}, 0]"
    assert written(PIXELS, box(x, 0)) == f"[{pixels}, 0]"


def test_neighbouring_text_becomes_one_part_and_the_rest_stays() -> None:
    image = WIDE.part
    conversation = answered(
        TextPart(text="At "), box(0, 0), TextPart(text=" the "), ReferencePart(text="dog"), image
    )
    done = write_boxes(conversation, [WIDE], LIST, UNUSED)
    assert done.messages[1] == Message(
        role="assistant",
        parts=(TextPart(text="At [0, 0] the dog"), image),
        field="messages[1]",
        is_trained=False,
    )
    assert done.messages[0] == conversation.messages[0]
    assert has_boxes(conversation)
    assert not has_boxes(done)
    assert write_boxes(done, [], LIST, UNUSED) is done


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (box(-1.5, 0, 201.5, 102), "[0, 0, 1000, 1000]"),
        (box(10, 10, 10, 10), "[50, 100, 50, 100]"),
        (box(-0.01, 1.02, space="unit"), "[0, 1000]"),
    ],
)
def test_half_a_pixel_outside_and_flat_boxes_are_taken(given: BoxPart, text: str) -> None:
    assert written(LIST, given) == text


@pytest.mark.parametrize(
    ("given", "shown", "size"),
    [
        (box(0, 0, 203, 50), "0, 0, 203, 50", "200 x 100 pixels"),
        (box(0, 0, 50, 103), "0, 0, 50, 103", "200 x 100 pixels"),
        (box(-3, 0, 50, 50), "-3, 0, 50, 50", "200 x 100 pixels"),
        (box(5, 150), "5, 150", "200 x 100 pixels"),
        (box(0.1, 0.1, 5, 5, space="unit"), "0.1, 0.1, 5, 5", "0 to 1"),
        (box(0, float("nan")), "0, nan", "200 x 100 pixels"),
    ],
)
def test_a_box_outside_its_picture(given: BoxPart, shown: str, size: str) -> None:
    with pytest.raises(DataError) as caught:
        written(LIST, given)
    assert str(caught.value) == (
        f"a.jsonl:5: objects.bbox[0]: the box [{shown}] lies outside its picture of {size}.\n"
        "Mend the box, or say in which space it is."
    )
    assert caught.value.code == "box.outside"


@pytest.mark.parametrize("numbers", [(50, 10, 20, 90), (20, 90, 50, 10)])
def test_corners_out_of_order(numbers: tuple[float, ...]) -> None:
    with pytest.raises(DataError) as caught:
        written(LIST, box(*numbers))
    assert str(caught.value) == (
        f"a.jsonl:5: objects.bbox[0]: the corners of the box [{', '.join(map(str, numbers))}] are "
        "out of order: x1, y1, x2, y2 expected.\nPut the upper left corner first."
    )
    assert caught.value.code == "box.order"
