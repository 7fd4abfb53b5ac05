"""What a preview says of samples: boxes from the tokens, text, pictures, frames, fitting."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sightline.config import DataConfig, RunConfig
from sightline.data import encode
from sightline.data.boxes import write_boxes
from sightline.data.conversation import TextPart
from sightline.errors import ConfigError
from sightline.model import open_checkpoint
from sightline.preparation import prepare_data
from sightline.preparation.preview import preview_data
from sightline.preparation.preview.media import (
    MAX_FRAMES,
    MAX_PICTURE_SIDE_PIXELS,
    MAX_SIDE_OF_MANY_PIXELS,
)
from sightline.records.preview import Preview, ShownBox, ShownSample, ShownTurn

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
# Name, width, height, whether EXIF turns it, box in pixels of the picture as shown.
PICTURES = [
    ("plain.png", 640, 480, False, (30, 60, 200, 300)),
    ("turned.jpg", 600, 900, True, (60, 90, 300, 450)),
    ("huge.png", 3000, 2000, False, (300, 200, 2900, 1960)),
    ("tiny.png", 40, 33, False, (2, 1, 38, 33)),
    ("strip.png", 1600, 40, False, (500, 3, 900, 38)),
    ("pole.png", 40, 1600, False, (3, 500, 38, 900)),
]

Show = Callable[..., Preview]


@pytest.fixture
def show(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> Show:
    """A preview of rows in the shape of ms-swift, or in another."""

    def shown(
        rows: list[dict[str, Any]],
        family: str = "qwen2_5_vl",
        *,
        numbers: tuple[int, ...] = (),
        num_samples: int = 64,
        source: dict[str, Any] | None = None,
        **data: Any,
    ) -> Preview:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        settings = {"train": {"path": str(path), "format": "swift"} | (source or {})} | data
        config = RunConfig(
            model=str(tiny_folder(family)),
            data=DataConfig.model_validate(settings),
            output=str(tmp_path / "run"),
        )
        checkpoint = open_checkpoint(config.model, config.data)
        prepared = prepare_data(config, checkpoint, stop_on_bad=False)
        return preview_data(config, checkpoint, prepared, num_samples=num_samples, numbers=numbers)

    return shown


@pytest.fixture
def pictures(tmp_path: Path) -> list[dict[str, Any]]:
    """Rows with a box in pictures of every kind, the box painted yellow."""
    rows = []
    for name, width, height, is_turned, box in PICTURES:
        image = Image.new("RGB", (width, height), (20, 40, 160))
        ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), "yellow")
        exif = Image.Exif()
        if is_turned:
            image, exif[0x0112] = image.transpose(Image.Transpose.ROTATE_90), 6
        image.save(tmp_path / name, exif=exif)
        rows.append(found(name, [box]))
    return rows


def found(name: str, boxes: list[Any], question: str = "<image>Find it.") -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": " and ".join("<bbox>" for _ in boxes)},
        ],
        "images": [name],
        "objects": {"ref": [], "bbox": [list(box) for box in boxes]},
    }


def said(question: str, answer: str, images: list[str]) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ],
        "images": images,
    }


def boxes_of(preview: Preview) -> list[ShownBox]:
    return [box for sample in preview.samples for box in sample.boxes]


def text_of(turns: tuple[ShownTurn, ...]) -> str:
    return "".join(piece.text for turn in turns for piece in turn.pieces)


@pytest.mark.parametrize("family", FAMILIES)
def test_boxes_redrawn_from_the_tokens_are_the_annotated_ones(
    show: Show, pictures: list[dict[str, Any]], family: str
) -> None:
    preview = show(pictures, family, images={"min_pixels": 3136, "max_pixels": 602112})
    boxes = boxes_of(preview)
    assert [box.annotated for box in boxes] == [box for *_, box in PICTURES]
    assert {box.verdict for box in boxes} <= {"agrees", "rounded"}
    overlaps = [box.iou for box in boxes if box.iou is not None]
    assert len(overlaps) == len(PICTURES)
    assert float(np.mean(overlaps)) >= 0.97
    for sample, (_, width, height, _, box) in zip(preview.samples, PICTURES, strict=True):
        [picture] = sample.pictures
        assert picture.file_size == (height, width)
        assert is_yellow(sample, box)
        assert not is_yellow(sample, (0, 0, 2, 1))


def is_yellow(sample: ShownSample, box: tuple[int, int, int, int]) -> bool:
    """Whether the middle of a box, in pixels of the file, is yellow in the picture shown."""
    [picture] = sample.pictures
    assert picture.pixels is not None
    (height, width), (down, across) = picture.file_size, picture.pixels.shape[:2]
    x, y = (box[0] + box[2]) / 2 / width * across, (box[1] + box[3]) / 2 / height * down
    red, green, blue = picture.pixels[int(y), int(x)].tolist()
    return red > 200 and green > 200 and blue < 90


@pytest.mark.parametrize("family", FAMILIES)
def test_points_are_compared(show: Show, pictures: list[dict[str, Any]], family: str) -> None:
    [box] = boxes_of(show([found("plain.png", [(320, 100)])], family))
    assert box.verdict == "agrees"
    assert box.iou is None
    assert box.redrawn[0] == pytest.approx((320, 100), abs=1.0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("fault", ["swapped axes", "one axis forgotten", "file pixels"])
def test_boxes_written_wrong_are_found(
    show: Show,
    pictures: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    fault: str,
) -> None:
    """The fault is planted where boxes become text, and seen from the tokens alone."""

    def damaged(conversation: Any, images: Any, writing: Any, preprocessing: Any) -> Any:
        [image] = images
        height, width = image.height, image.width
        wrong = {
            "swapped axes": {"height": width, "width": height},
            "one axis forgotten": {"height": height * 1.4},
            "file pixels": {"height": 1000, "width": 1000, "resized": (1000, 1000)},
        }
        planned = [replace(image, **wrong[fault])]
        return write_boxes(conversation, planned, writing, preprocessing)

    monkeypatch.setattr(encode, "write_boxes", damaged)
    row = found("turned.jpg", [(60, 90, 300, 450)])
    [sample] = show([row], family, images={"max_pixels": 100352}).samples
    [box] = sample.wrong_boxes
    assert box.verdict in ("differs", "outside")
    assert box.iou is not None
    assert box.iou < 0.8


def test_a_box_that_never_became_text_is_missing(
    show: Show, pictures: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(conversation: Any, *others: Any) -> Any:
        written = write_boxes(conversation, *others)
        *turns, answer = written.messages
        short = replace(answer, parts=(TextPart(text=answer.text.partition(" and ")[2]),))
        return replace(written, messages=(*turns, short))

    monkeypatch.setattr(encode, "write_boxes", lost)
    [sample] = show([found("plain.png", [(30, 60, 200, 300), (300, 20, 600, 470)])]).samples
    assert [box.verdict for box in sample.boxes] == ["missing", "agrees"]
    assert sample.boxes[0].annotated == (30, 60, 200, 300)
    assert sample.boxes[1].annotated == (300, 20, 600, 470)
    assert len(sample.wrong_boxes) == 1


def test_a_small_box_may_be_rounded_away_and_is_not_wrong(
    show: Show, pictures: list[dict[str, Any]]
) -> None:
    row = found("huge.png", [(301, 202, 340, 239)])
    [sample] = show([row], images={"max_pixels": 100352}).samples
    [box] = sample.boxes
    assert box.iou is not None
    assert box.iou < 0.97
    assert box.verdict == "rounded"
    assert sample.wrong_boxes == ()


def test_boxes_belong_to_their_own_pictures(show: Show, pictures: list[dict[str, Any]]) -> None:
    row = {
        "messages": [
            {"role": "user", "content": "<image>and <image>: find the yellow boxes."},
            {"role": "assistant", "content": "first <bbox>, second <bbox>"},
            {"role": "user", "content": "And here? <image>"},
            {"role": "assistant", "content": "<bbox>"},
            {"role": "user", "content": "Where was it in the first one?"},
            {"role": "assistant", "content": "<bbox>"},
        ],
        "images": ["plain.png", "turned.jpg", "tiny.png"],
        "objects": {
            "ref": [],
            "bbox": [list(PICTURES[which][-1]) for which in (0, 1, 3, 0)],
            "image_id": [0, 1, 2, 0],
        },
    }
    [sample] = show([row], "qwen2_5_vl").samples
    assert [box.images for box in sample.boxes] == [(0,), (1,), (2,), (0,)]
    assert {box.verdict for box in sample.boxes} <= {"agrees", "rounded"}


def test_boxes_of_the_text_alone(show: Show, pictures: list[dict[str, Any]]) -> None:
    answer = (
        '[{"bbox_2d": [30, 60, 200, 300], "label": "fine"}, '
        '{"bbox_2d": [200, 300, 30, 60], "label": "inverted"}, '
        '{"bbox_2d": [30, 60, 900, 300], "label": "outside"}, {"point_2d": [3, 4], "label": "p"}]'
    )
    [sample] = show([said("<image>Find [1, 2, 3, 4].", answer, ["plain.png"])]).samples
    assert [(box.label, box.verdict) for box in sample.boxes] == [
        ("fine", "text_only"),
        ("inverted", "inverted"),
        ("outside", "outside"),
        ("p", "text_only"),
    ]
    assert all(box.annotated is None for box in sample.boxes)
    height, width = sample.pictures[0].seen_size
    x, y = 640 / width, 480 / height
    assert sample.boxes[0].redrawn[0] == pytest.approx((30 * x, 60 * y, 200 * x, 300 * y))


def test_text_boxes_are_about_the_last_pictures_that_were_shown(
    show: Show, pictures: list[dict[str, Any]]
) -> None:
    answer = '{"bbox_2d": [0, 0, 500, 500], "label": "a"}'
    turns = [
        ("user", "<image>Find it."),
        ("assistant", answer),
        ("user", "And here? <image>"),
        ("assistant", answer),
        ("user", "Again."),
        ("assistant", answer),
    ]
    row = {
        "messages": [{"role": role, "content": content} for role, content in turns],
        "images": ["plain.png", "turned.jpg"],
    }
    [sample] = show([row], "qwen3_vl").samples
    assert [box.images for box in sample.boxes] == [(0,), (1,), (1,)]
    assert [box.redrawn for box in sample.boxes] == [
        ((0, 0, 320, 240),),
        ((0, 0, 300, 450),),
        ((0, 0, 300, 450),),
    ]
    assert [sample.turns[box.turn].role for box in sample.boxes] == ["assistant"] * 3


def test_a_text_box_about_several_pictures_may_be_in_any(
    show: Show, pictures: list[dict[str, Any]]
) -> None:
    answer = '{"bbox_2d": [0, 0, 500, 500], "label": "a"}'
    row = said("<image><image>Find it.", answer, ["plain.png", "turned.jpg"])
    [sample] = show([row], "qwen3_vl").samples
    [box] = sample.boxes
    assert box.images == (0, 1)
    assert box.redrawn == ((0, 0, 320, 240), (0, 0, 300, 450))


def test_lifted_text_boxes_are_annotated_ones(show: Show, pictures: list[dict[str, Any]]) -> None:
    answer = '[{"bbox_2d": [30, 60, 200, 300], "label": "fine"}]'
    row = said("<image>Find it.", answer, ["plain.png"])
    for family in FAMILIES:
        [box] = boxes_of(show([row], family, source={"text_boxes": "pixels"}))
        assert (box.label, box.annotated) == ("fine", (30, 60, 200, 300))
        assert box.verdict == "agrees"


@pytest.mark.parametrize(
    ("space", "numbers"),
    [("unit", "0.25, 0.5, 0.5, 1"), ("thousandths", "250, 500, 500, 1000")],
)
def test_annotated_boxes_are_in_pixels_of_the_file(
    show: Show, pictures: list[dict[str, Any]], space: str, numbers: str
) -> None:
    row = said("<image>Find it.", f'{{"bbox_2d": [{numbers}]}}', ["plain.png"])
    [box] = boxes_of(show([row], source={"text_boxes": space}))
    assert box.annotated == (160, 240, 320, 480)
    assert box.verdict == "agrees"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_text_is_what_the_token_ids_say(
    show: Show, pictures: list[dict[str, Any]], family: str, tiny_folder: Callable[[str], Path]
) -> None:
    words = "猫 und 🐈\u200d⬛ café\n\n  end\u202e"
    row = said(f"<image>{words}?", words.strip(), ["tiny.png"])
    [sample] = show([row], family).samples
    pieces = [piece for turn in sample.turns for piece in turn.pieces]
    assert sum(piece.num_tokens for piece in pieces) == sample.num_tokens
    assert not any("\ufffd" in piece.text for piece in pieces)
    told = text_of(sample.turns)
    assert told.count(words.strip()) == 2
    answer = sample.turns[-1]
    assert (answer.role, sample.turns[-2].role) == ("assistant", "user")
    supervised = "".join(piece.text for piece in pieces if piece.is_supervised)
    assert supervised == f"{words.strip()}<|im_end|>"
    assert sum(turn.num_supervised_tokens for turn in sample.turns) == sample.num_supervised_tokens
    assert [piece.text for piece in answer.pieces if piece.kind == "special"] == [
        "<|im_start|>",
        "<|im_end|>",
    ]
    [pads] = [piece for piece in pieces if piece.kind == "image"]
    assert (pads.text, pads.num_tokens) == ("<|image_pad|>", sample.pictures[0].num_tokens)
    assert not pads.is_supervised


def test_a_long_text_is_cut_and_counted(show: Show, pictures: list[dict[str, Any]]) -> None:
    row = said("<image>" + "long " * 6000, "So it is. " * 10, ["tiny.png"])
    [sample] = show([row]).samples
    user, answer = sample.turns[-2:]
    assert len(user.pieces) < 3000
    [hidden] = [piece for piece in user.pieces if piece.kind == "hidden"]
    assert hidden.num_tokens > 9000
    assert sum(piece.num_tokens for piece in user.pieces) == user.num_tokens
    assert not any(piece.kind == "hidden" for piece in answer.pieces)


def test_what_fitting_did(show: Show, pictures: list[dict[str, Any]]) -> None:
    words = " really" * 12
    turn = [
        {"role": "user", "content": f"<image>What is it?{words}"},
        {"role": "assistant", "content": "A box." + words},
    ]
    rows = [
        found("plain.png", [(30, 60, 200, 300)]),
        {"messages": turn * 4, "images": ["tiny.png"] * 4},
        said("<image>?", "yes " * 900, ["tiny.png"]),
        said("<image>?", "yes", ["not_there.png"]),
    ]
    shrunk = show(rows, max_length=250, fit=["shrink", "split", "trim", "drop"])
    assert shrunk.fates == {"kept": 0, "fitted": 2, "dropped": 1, "quarantined": 1}
    first = shrunk.samples[0]
    [picture] = first.pictures
    assert first.fit.policies == ("shrink",)
    assert first.fit.shrunk_to is not None
    share = np.prod(picture.seen_size) / np.prod(picture.full_size)
    assert first.fit.shrunk_to == pytest.approx(share)
    assert share < 0.8
    assert first.num_tokens <= 250
    assert first.boxes[0].verdict == "agrees"
    pieces = [sample.fit for sample in shrunk.samples[1:]]
    assert len(pieces) > 1
    assert [fit.piece for fit in pieces] == list(range(len(pieces)))
    assert {fit.num_pieces for fit in pieces} == {len(pieces)}
    assert [(item.fate, item.origin.rpartition(":")[2]) for item in shrunk.left_out] == [
        ("dropped", "3"),
        ("quarantined", "4"),
    ]
    assert "not_there.png does not exist" in shrunk.left_out[1].reason
    assert shrunk.left_out[1].field == "images[0]"
    trimmed = show(rows[:2], max_length=400, fit=["trim", "drop"]).samples[-1].fit
    assert trimmed.policies == ("trim",)
    assert trimmed.turns is not None
    assert trimmed.turns[0] > 0
    whole = show(rows[:2]).samples[0].fit
    assert (whole.fate, whole.policies, whole.shrunk_to) == ("kept", (), None)


def test_at_most_twenty_are_listed_as_left_out(show: Show, pictures: list[dict[str, Any]]) -> None:
    rows = [pictures[0], *(said("<image>?", "yes", ["gone.png"]) for _ in range(30))]
    preview = show(rows)
    assert preview.fates["quarantined"] == 30
    assert len(preview.left_out) == 20


def test_samples_are_chosen_evenly_or_by_number(show: Show, pictures: list[dict[str, Any]]) -> None:
    rows = [pictures[3]] * 10
    assert [s.number for s in show(rows, num_samples=3).samples] == [0, 3, 6]
    assert [s.number for s in show(rows, num_samples=20).samples] == list(range(10))
    chosen = show(rows, numbers=(7, 2, 7))
    assert [s.number for s in chosen.samples] == [7, 2]
    assert [s.title for s in chosen.samples] == ["rows.jsonl:8", "rows.jsonl:3"]
    with pytest.raises(ConfigError, match=r"--sample 10: data\.train has 10 samples, 0 to 9"):
        show(rows, numbers=(10,))
    for wrong in (0, -3, 65):
        with pytest.raises(ConfigError, match=f"{wrong} samples: a page shows 1 to 64"):
            show(rows, num_samples=wrong)


def test_large_pictures_are_reduced_and_damaged_ones_say_so(
    show: Show, pictures: list[dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "broken.png"
    Image.effect_noise((200, 200), 80).save(path)
    content = bytearray(path.read_bytes())
    # Header and end are whole: only a decoder sees it.
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    path.write_bytes(content)
    rows = [pictures[2], said("<image>?", "yes", [path.name]), pictures[4]]
    large, damaged, strip = (sample.pictures[0] for sample in show(rows).samples)
    assert max(large.seen_size) > MAX_PICTURE_SIDE_PIXELS
    assert large.pixels is not None
    assert max(large.pixels.shape) == MAX_PICTURE_SIDE_PIXELS
    assert damaged.pixels is None
    assert damaged.fault is not None
    assert path.name in damaged.fault
    # Reduced to the same side it would be a line.
    assert strip.pixels is not None
    assert strip.pixels.shape[:2] == strip.seen_size
    assert max(strip.seen_size) > MAX_PICTURE_SIDE_PIXELS


def test_a_page_of_many_pictures_stays_small(show: Show, pictures: list[dict[str, Any]]) -> None:
    five = said("<image>" * 5 + "?", "yes", ["huge.png"] * 5)
    budget = {"min_pixels": 3136, "max_pixels": 1003520}
    for rows, num_pictures in (([five], 5), ([five] * 17, 4)):
        sample = show(rows, images=budget).samples[0]
        assert sample.num_pictures == 5
        assert len(sample.pictures) == num_pictures
        sides = {max(one.pixels.shape) for one in sample.pictures if one.pixels is not None}
        assert sides == {MAX_SIDE_OF_MANY_PIXELS}


@pytest.mark.parametrize("family", FAMILIES)
def test_frames_of_a_video_with_their_times(show: Show, tmp_path: Path, family: str) -> None:
    from sightline.data.shapes import write_shapes

    folder = tmp_path / "shapes"
    write_shapes(folder, num_images=0, num_videos=1, height=112, width=112, num_frames=48, fps=8.0)
    [name] = [path.name for path in sorted((folder / "videos").iterdir())]
    row = {
        "messages": [
            {"role": "user", "content": "<video>?"},
            {"role": "assistant", "content": "Left."},
        ],
        "videos": [f"shapes/videos/{name}"],
    }
    [sample] = show([row], family, videos={"fps": 5.0, "max_pixels": 50176}).samples
    [video] = sample.videos
    assert video.num_frames == 30
    assert video.duration_seconds == 6.0
    assert video.grid_thw[0] == 15
    assert len(video.frames) == MAX_FRAMES
    grids = [frame.grid for frame in video.frames]
    assert grids == [0, 0, 1, 1, 3, 3, 5, 5, 7, 7, 9, 9, 11, 11, 13, 13]
    for frame in video.frames:
        assert frame.seconds == pytest.approx(frame.index / 8.0)
        assert not frame.is_repeat
        assert frame.pixels.shape[0] == video.seen_size[0]
    for first, second in zip(video.frames[::2], video.frames[1::2], strict=True):
        middle = (first.seconds + second.seconds) / 2
        assert video.grid_seconds[first.grid] == pytest.approx(middle)
    pads = [piece for turn in sample.turns for piece in turn.pieces if piece.kind == "video"]
    assert sum(piece.num_tokens for piece in pads) == video.num_tokens == sample.num_vision_tokens
    assert {piece.medium for piece in pads} == {0}
    rules = {"qwen2_vl": "grid_index", "qwen2_5_vl": "seconds", "qwen3_vl": "frame_per_span"}
    assert video.temporal_rule == rules[family]
    assert len(pads) == (15 if family == "qwen3_vl" else 1)


def test_positions_and_spans(show: Show, pictures: list[dict[str, Any]]) -> None:
    [sample] = show([pictures[3]], images={"min_pixels": 3136, "max_pixels": 3136}).samples
    assert sample.position_ids.shape == (3, sample.num_tokens)
    assert sample.rope_delta == sample.position_ids.max() + 1 - sample.num_tokens
    assert [span.kind for span in sample.spans] == ["text", "image", "text"]
    assert sample.spans[-1].stop == sample.num_tokens
    assert sample.spans[1].label == "image 1 x 2 x 3"
    assert sample.pictures[0].grid_thw == (1, 4, 6)
