"""Boxes in the text: found, taken out, and written again where the family wants them."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.config import Source
from sightline.data import MediaLimits, limited, read_source
from sightline.data.conversation import BoxPart, TextPart
from sightline.data.fit import FitRules, fit
from sightline.errors import DataError
from sightline.evaluation import boxes_in_file
from sightline.geometry import BoxFrame, resize_image
from sightline.model import open_checkpoint
from sightline.preparation import make_encoder

FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


def conversations(folder: Path, answers: list[str], space: str | None, **more: object) -> list:
    rows = [
        {
            "messages": [
                {"role": "user", "content": "<image>Report bbox_2d in JSON."},
                {"role": "assistant", "content": answer},
            ],
            "images": ["a.png"],
        }
        | more
        for answer in answers
    ]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(read_source(Source(path=str(path), text_boxes=space)))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.new("RGB", (640, 480)).save(tmp_path / "a.png")
    return tmp_path


def test_boxes_become_parts_and_the_text_around_them_stays(picture: Path) -> None:
    in_json = '[{"bbox_2d": [1,2, 3.5,4], "label": "a"}, {"point_2d": [5, 6]}]'
    answer = f"{in_json} <|box_start|>(1,2),(3,4)<|box_end|>."
    [left] = conversations(picture, [answer], None)
    assert left.messages[1].parts == (TextPart(text=answer),)
    [made] = conversations(picture, [answer], "pixels")
    field = "messages[1]"
    kinds = {"space": "pixels", "image": 0, "field": field}
    assert made.messages[1].parts == (
        TextPart(text='[{"bbox_2d": '),
        BoxPart(numbers=(1.0, 2.0, 3.5, 4.0), form="list", **kinds),
        TextPart(text=', "label": "a"}, {"point_2d": '),
        BoxPart(numbers=(5.0, 6.0), form="list", **kinds),
        TextPart(text="}] "),
        BoxPart(numbers=(1.0, 2.0, 3.0, 4.0), **kinds),
        TextPart(text="."),
    )
    # The question asks for boxes and holds none.
    assert made.messages[0].parts[1:] == (TextPart(text="Report bbox_2d in JSON."),)


def test_a_box_of_the_wrong_length_and_one_without_a_picture(picture: Path) -> None:
    with pytest.raises(DataError, match=r"rows.jsonl:1.*bbox_2d has 4 numbers, found 3"):
        conversations(picture, ['{"bbox_2d": [1, 2, 3]}'], "pixels")
    turns = [
        {"role": "user", "content": "Where?"},
        {"role": "assistant", "content": '{"bbox_2d": [1, 2, 3, 4]}'},
    ]
    with pytest.raises(DataError, match="stands in a turn about no picture"):
        conversations(picture, [""], "pixels", messages=turns, images=[])


@pytest.mark.parametrize("family", FAMILY_KEYS)
@pytest.mark.parametrize("space", ["pixels", "thousandths"])
@pytest.mark.parametrize("width", [640, 600])
def test_a_box_in_a_turn_about_two_pictures(
    family: str, space: str, width: int, tiny_folder: Callable[[str], Path], picture: Path
) -> None:
    """Written where it comes to the same for both pictures, refused where it does not."""
    Image.new("RGB", (width, 480)).save(picture / "b.png")
    turns = [
        {"role": "user", "content": "<image><image>Where?"},
        {"role": "assistant", "content": '{"bbox_2d": [1, 2, 3, 4]}'},
    ]
    [made] = conversations(picture, [""], space, messages=turns, images=["b.png", "a.png"])
    checkpoint = open_checkpoint(str(tiny_folder(family)))
    is_clear = width == 640 or (
        space == "thousandths" and checkpoint.family.box_space == "thousandths"
    )
    if is_clear:
        text = make_encoder(checkpoint).encode(made).conversation.messages[1].text
        assert re.fullmatch(r'\{"bbox_2d": \[\d+, \d+, \d+, \d+\]\}', text)
        return
    with pytest.raises(DataError) as caught:
        make_encoder(checkpoint).encode(made)
    assert "a turn about 2 pictures of 600 x 480 and 640 x 480 pixels" in str(caught.value)


def iou(one: np.ndarray, other: np.ndarray) -> float:
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    shared = np.prod(np.clip(high - low, 0, None))
    areas = np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2])
    return float(shared / (areas - shared))


@pytest.mark.parametrize("family", FAMILY_KEYS)
@pytest.mark.parametrize("space", ["pixels", "unit", "thousandths", "resized"])
def test_round_trip(
    tiny_folder: Callable[[str], Path], tmp_path: Path, family: str, space: str
) -> None:
    """From the source's space into the family's text, shrunk or not, and back to the file."""
    checkpoint = open_checkpoint(str(tiny_folder(family)))
    encoder, pre = make_encoder(checkpoint), checkpoint.preprocessing
    chosen = random.Random(3)
    found: dict[bool, list[float]] = {False: [], True: []}
    for number in range(24):
        width, height = chosen.randrange(120, 1300), chosen.randrange(120, 1300)
        Image.new("RGB", (width, height)).save(tmp_path / "a.png")
        x, y = chosen.randrange(0, width - 40), chosen.randrange(0, height - 40)
        box = np.array(
            [x, y, chosen.randrange(x + 32, width + 1), chosen.randrange(y + 32, height + 1)]
        )
        full = resize_image(height, width, pre.image_patching, pre.image_budget)
        across, down = {
            "pixels": (width, height),
            "unit": (1, 1),
            "thousandths": (1000, 1000),
            "resized": (full[1], full[0]),
        }[space]
        scale = np.array([across / width, down / height] * 2)
        written = (box * scale).round(6 if space == "unit" else 2).tolist()
        answer = json.dumps([{"bbox_2d": written, "label": f"{number}"}])
        [conversation] = conversations(tmp_path, [answer], space)
        measure = encoder.measure(conversation)
        for limit in (measure.num_tokens, measure.num_tokens - measure.num_vision_tokens // 3):
            rules = FitRules(max_length=limit, policies=("shrink",), vision_share=0.2)
            [*pieces] = fit(conversation, measure, encoder, rules).pieces
            for piece in pieces:
                seen = limited(pre, piece.limits)
                resized = resize_image(height, width, seen.image_patching, seen.image_budget)
                frame = BoxFrame(
                    space=checkpoint.family.box_space,
                    file_height=height,
                    file_width=width,
                    resized_height=resized[0],
                    resized_width=resized[1],
                )
                text = encoder.encode(conversation, piece.limits).conversation.messages[1].text
                [back] = boxes_in_file(text, frame)
                is_shrunk = piece.limits != MediaLimits()
                found[is_shrunk].append(iou(np.array(back["box"]), box))
    assert len(found[False]) == 24
    assert len(found[True]) >= 12
    for overlaps in found.values():
        assert np.mean(overlaps) >= 0.97


def test_what_is_in_the_space_of_the_family_stays_word_for_word(
    tiny_folder: Callable[[str], Path], picture: Path
) -> None:
    answer = '[{"bbox_2d": [15, 116, 265, 464], "label": "star"}]'
    for family, space in (
        ("qwen2_vl", "thousandths"),
        ("qwen2_5_vl", "resized"),
        ("qwen3_vl", "thousandths"),
    ):
        encoder = make_encoder(open_checkpoint(str(tiny_folder(family))))
        [conversation] = conversations(picture, [answer], space)
        assert encoder.encode(conversation).conversation.messages[1].text == answer


def test_box_tokens_make_the_round_trip(tiny_folder: Callable[[str], Path], picture: Path) -> None:
    """Into tokens where the family has them, from pixels of the file and back."""
    checkpoint = open_checkpoint(str(tiny_folder("qwen2_vl")))
    answer = "<|object_ref_start|>a star<|object_ref_end|><|box_start|>(64,48),(320,240)<|box_end|>"
    [conversation] = conversations(picture, [answer], "pixels")
    sample = make_encoder(checkpoint).encode(conversation)
    text = sample.conversation.messages[1].text
    assert text == answer.replace("(64,48),(320,240)", "(100,100),(500,500)")
    height, width = sample.images[0].resized
    frame = BoxFrame(
        space="thousandths",
        file_height=480,
        file_width=640,
        resized_height=height,
        resized_width=width,
    )
    assert boxes_in_file(text, frame) == [{"label": "a star", "box": [64.0, 48.0, 320.0, 240.0]}]
