"""The page of a preview: what is drawn where, and nothing of the data is ever markup."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sightline.records.preview import (
    LeftOut,
    Preview,
    ShownBox,
    ShownFit,
    ShownFrame,
    ShownPicture,
    ShownPiece,
    ShownSample,
    ShownSpan,
    ShownTurn,
    ShownVideo,
)
from sightline.report.preview import fit_text, preview_html, write_preview, wrong_boxes
from sightline.report.preview_pictures import MAX_ROWS, view_grids, view_picture
from sightline.report.visible import visible_text

HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(2)>",
    "<svg onload=alert(3)><style>*{display:none}</style>",
    "</p></article></main><h1>gone</h1>",
    "{{ 7 * 7 }}{% raw %}<!-- ",
    "javascript:alert(4)//&lt;b&gt;",
)
KEPT = ShownFit(
    fate="kept",
    policies=(),
    reason=None,
    shrunk_to=None,
    piece=None,
    num_pieces=1,
    turns=None,
)
PICTURE = ShownPicture(
    name="/data/a.png",
    file_size=(100, 200),
    full_size=(112, 224),
    seen_size=(56, 84),
    grid_thw=(1, 4, 6),
    patch_size=14,
    merge=2,
    num_tokens=6,
    pixels=np.zeros((56, 84, 3), dtype=np.uint8),
    fault=None,
)
BOX = ShownBox(
    images=(0,),
    turn=1,
    label="cat",
    written=(42.0, 28.0, 84.0, 56.0),
    redrawn=((100.0, 50.0, 200.0, 100.0),),
    annotated=(98.0, 50.0, 200.0, 99.0),
    iou=0.961,
    verdict="rounded",
)


def piece(text: str, *, kind: Any = "text", is_supervised: bool = False) -> ShownPiece:
    return ShownPiece(kind=kind, text=text, num_tokens=1, is_supervised=is_supervised)


def sample(**changes: Any) -> ShownSample:
    """A sample of seven placeholders and text, with fields changed."""
    turns = (
        ShownTurn(
            role="user",
            start=0,
            num_tokens=9,
            num_supervised_tokens=0,
            pieces=(
                piece("<|im_start|>", kind="special"),
                piece("user"),
                piece("\n"),
                ShownPiece(
                    kind="image",
                    text="<|image_pad|>",
                    num_tokens=6,
                    is_supervised=False,
                    medium=0,
                ),
            ),
        ),
        ShownTurn(
            role="assistant",
            start=9,
            num_tokens=2,
            num_supervised_tokens=2,
            pieces=(
                piece("Yes", is_supervised=True),
                piece("<|im_end|>", kind="special", is_supervised=True),
            ),
        ),
    )
    values: dict[str, Any] = {
        "number": 3,
        "origin": "/data/rows.jsonl:4",
        "title": "rows.jsonl:4",
        "num_tokens": 11,
        "num_vision_tokens": 6,
        "num_supervised_tokens": 2,
        "fit": KEPT,
        "pictures": (PICTURE,),
        "num_pictures": 1,
        "videos": (),
        "num_videos": 0,
        "boxes": (BOX,),
        "turns": turns,
        "position_ids": np.array(
            [
                [0, 1, 2, 3, 3, 3, 3, 3, 3, 6, 7],
                [0, 1, 2, 3, 3, 3, 4, 4, 4, 6, 7],
                [0, 1, 2, 3, 4, 5, 3, 4, 5, 6, 7],
            ]
        ),
        "rope_delta": -3,
        "spans": (
            ShownSpan(kind="text", start=0, stop=3, label="text"),
            ShownSpan(kind="image", start=3, stop=9, label="image 1 x 2 x 3"),
            ShownSpan(kind="text", start=9, stop=11, label="text"),
        ),
    }
    return ShownSample(**(values | changes))


def video(**changes: Any) -> ShownVideo:
    frames = tuple(
        ShownFrame(
            index=index * 5,
            seconds=index * 0.625,
            grid=index // 2,
            is_repeat=index == 3,
            pixels=np.zeros((56, 84, 3), dtype=np.uint8),
        )
        for index in range(4)
    )
    values: dict[str, Any] = {
        "name": "/data/a.mp4",
        "file_size": (100, 200),
        "full_size": (56, 84),
        "seen_size": (56, 84),
        "grid_thw": (2, 4, 6),
        "patch_size": 14,
        "merge": 2,
        "num_tokens": 12,
        "duration_seconds": 2.5,
        "num_frames": 4,
        "seconds_per_grid": 1.25,
        "grid_seconds": (0.3125, 1.5625),
        "temporal_rule": "seconds",
        "frames": frames,
        "fault": None,
    }
    return ShownVideo(**(values | changes))


def preview(*samples: ShownSample, **changes: Any) -> Preview:
    values: dict[str, Any] = {
        "family": "Qwen2.5-VL",
        "model": "tiny:qwen2_5_vl",
        "max_length": 100,
        "fingerprint": "0123456789abcdef",
        "box_space": "resized_pixels",
        "num_conversations": 5,
        "fates": {"kept": 5, "fitted": 0, "dropped": 0, "quarantined": 0},
        "samples": samples,
        "left_out": (),
    }
    return Preview(**(values | changes))


class Page(HTMLParser):
    """The elements of a page with their attributes, and all its text."""

    VOID = ("meta", "input", "br", "img")

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def all(self, tag: str, name: str | None = None) -> list[dict[str, str]]:
        """Attributes of the elements of a tag, of one class where it is named."""
        found = [attributes for element, attributes in self.elements if element == tag]
        if name is None:
            return found
        return [one for one in found if name in one.get("class", "").split()]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_nothing_of_the_data_is_markup(hostile: str) -> None:
    plain = Page(preview_html(_filled("a")))
    page = Page(preview_html(_filled(hostile)))
    assert page.open == []
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
    names = {name for _, attributes in page.elements for name in attributes}
    assert not any(name.startswith("on") for name in names)
    assert {"script", "img", "iframe", "link"} & {tag for tag, _ in page.elements} == set()
    for _, attributes in page.elements:
        target = attributes.get("href", "#")
        assert target.startswith(("#", "data:image/"))
    # Shown, not lost: token, role, file names, fault, label, fitting, what is left out.
    assert page.text.count(hostile) >= 10


def _filled(text: str) -> Preview:
    """A preview in which every text of the data is ``text``."""
    turn = ShownTurn(
        role=text,
        start=0,
        num_tokens=2,
        num_supervised_tokens=1,
        pieces=(piece(text), piece(text, kind="special"), piece(text, is_supervised=True)),
    )
    fit = replace(KEPT, fate="fitted", policies=("trim",), reason=text, turns=(2, 4))
    wrong = replace(BOX, label=text, verdict="differs")
    unread = replace(PICTURE, name=text, pixels=None, fault=text)
    shown = sample(
        origin=text,
        title=text,
        fit=fit,
        turns=(turn,),
        boxes=(wrong, replace(BOX, label=text)),
        pictures=(replace(PICTURE, name=text), unread),
        num_pictures=2,
        videos=(video(name=text, fault=text),),
        num_videos=1,
    )
    left_out = LeftOut(origin=text, fate="dropped", field=text, reason=text)
    fates = {"kept": 5, "fitted": 0, "dropped": 1, "quarantined": 0}
    return preview(shown, model=text, fates=fates, left_out=(left_out,))


def test_the_page_needs_nothing_but_itself() -> None:
    html = preview_html(preview(sample(videos=(video(),), num_videos=1)))
    assert "default-src 'none'" in html
    assert "<script" not in html
    page = Page(html)
    addresses = [value for _, one in page.elements for key, value in one.items() if key == "src"]
    assert addresses == []
    assert not re.search(r"url\(|@import|https?://", html)
    ids = [one["id"] for _, one in page.elements if "id" in one]
    assert len(ids) == len(set(ids))
    targets = [one["href"][1:] for one in page.all("a")]
    assert set(targets) <= set(ids)
    assert "s3-p0" in targets
    drawings = [one for one in page.all("svg") if one.get("aria-hidden") != "true"]
    assert all(one["role"] == "img" and one["aria-label"] for one in drawings)


def test_the_picture_is_the_pixels_that_were_given() -> None:
    pixels = np.zeros((56, 84, 3), dtype=np.uint8)
    pixels[:, 42:] = (250, 10, 20)
    page = Page(preview_html(preview(sample(pictures=(replace(PICTURE, pixels=pixels),)))))
    [image] = page.all("image")
    content = base64.b64decode(image["href"].partition(",")[2])
    with Image.open(io.BytesIO(content)) as decoded:
        assert np.array_equal(np.asarray(decoded.convert("RGB")), pixels)
    assert (image["width"], image["height"]) == ("84", "56")


def test_the_grid_is_that_of_patches_and_tokens() -> None:
    canvas = view_picture(0, PICTURE, ()).canvas
    assert canvas is not None
    assert canvas.patch_lines == "M0 14H84M0 42H84M14 0V56M42 0V56M70 0V56"
    assert canvas.token_lines == "M0 28H84M28 0V56M56 0V56"
    assert not canvas.scrolls
    assert canvas.shown_width / canvas.shown_height == pytest.approx(84 / 56, abs=0.01)


def test_boxes_are_drawn_in_the_pixels_that_the_model_sees() -> None:
    annotated, redrawn = view_picture(0, PICTURE, (BOX,)).marks
    assert (annotated.kind, redrawn.kind) == ("annotated", "redrawn")
    # A file of 200 x 100 is seen at 84 x 56.
    assert (redrawn.x, redrawn.y, redrawn.width, redrawn.height) == (42, 28, 42, 28)
    assert (annotated.x, annotated.y) == (41.16, 28)
    assert (annotated.name, redrawn.name) == ("", "1 cat")
    assert not redrawn.is_wrong


def test_boxes_that_cannot_be_are_drawn_all_the_same() -> None:
    inverted = replace(
        BOX, redrawn=((200.0, 100.0, 100.0, 50.0),), annotated=None, iou=None, verdict="inverted"
    )
    far = replace(inverted, redrawn=((-1e9, 0.0, 1e9, 1e9),), verdict="outside")
    point = replace(inverted, redrawn=((100.0, 50.0),), verdict="text_only")
    missing = replace(BOX, written=None, redrawn=(), iou=None, verdict="missing")
    marks = view_picture(0, PICTURE, (inverted, far, point, missing)).marks
    assert [(mark.kind, mark.is_point, mark.is_wrong) for mark in marks] == [
        ("annotated", False, True),
        ("redrawn", False, True),
        ("redrawn", False, True),
        ("redrawn", True, False),
    ]
    assert (marks[1].x, marks[1].y, marks[1].width, marks[1].height) == (42, 28, 42, 28)
    assert max(abs(marks[2].x), marks[2].width) <= 3 * 84
    assert (marks[3].x, marks[3].y) == (42, 28)
    assert marks[0].name == "4 cat"


def test_a_box_that_may_be_in_several_pictures_is_drawn_in_each() -> None:
    both = replace(BOX, images=(0, 1), redrawn=((0.0, 0.0, 100.0, 50.0), (0.0, 0.0, 50.0, 50.0)))
    second = replace(PICTURE, file_size=(100, 100))
    for number, picture, width in ((0, PICTURE, 42), (1, second, 42)):
        view = view_picture(number, picture, (replace(both, annotated=None),))
        assert [mark.width for mark in view.marks] == [width]
        assert "in which of 2 pictures" in view.rows[0].verdict
    assert view_picture(2, PICTURE, (both,)).marks == ()


def test_many_boxes_are_listed_with_the_wrong_ones_among_them() -> None:
    wrong = replace(BOX, verdict="differs")
    view = view_picture(0, PICTURE, [BOX] * 100 + [wrong])
    assert len(view.rows) == MAX_ROWS
    assert view.num_hidden_rows == 101 - MAX_ROWS
    assert view.rows[-1].is_wrong
    assert view.rows[-1].number == 101
    assert len(view.marks) == 202
    html = preview_html(preview(sample(boxes=tuple([BOX] * 100))))
    assert "60 boxes more, drawn but not listed" in html


def test_wrong_boxes_come_first() -> None:
    right, wrong = replace(BOX, verdict="agrees"), replace(BOX, verdict="differs", iou=0.31)
    told = preview(sample(boxes=(right, wrong)))
    assert wrong_boxes(told) == [(3, "box 2 (cat): IoU 0.310, not as annotated")]
    page = Page(preview_html(told))
    assert page.all("div", "fails")
    assert "1 of 2 boxes is wrong" in page.text
    assert page.all("rect", "wrong")
    good = Page(preview_html(preview(sample(boxes=(right,)))))
    assert good.all("div", "holds")
    assert not good.all("rect", "wrong")


def test_an_overlap_is_never_rounded_up_to_all() -> None:
    html = preview_html(preview(sample(boxes=(replace(BOX, iou=0.99999, verdict="agrees"),))))
    assert "IoU 0.999" in html
    assert "IoU 1" in preview_html(preview(sample(boxes=(replace(BOX, iou=1.0),))))


def test_supervised_tokens_are_marked_and_placeholders_counted() -> None:
    html = preview_html(preview(sample()))
    [marked] = re.findall(r"<mark>(?!marked)(.*?)</mark>", html)
    assert marked == ('<span class="t">Yes</span><span class="t special">&lt;|im_end|&gt;</span>')
    assert '&lt;|image_pad|&gt; × 6<span class="what"> picture 1</span>' in html
    assert '<span class="t break">\n</span>' in html
    assert "2 tokens, 9 to 10; 2 with a loss" in html


def test_text_that_is_left_out_is_counted() -> None:
    hidden = ShownPiece(kind="hidden", text="", num_tokens=1234, is_supervised=True)
    turn = replace(sample().turns[1], pieces=(piece("a"), hidden, piece("b")))
    text = Page(preview_html(preview(sample(turns=(turn,))))).text
    assert "a … 1,234 tokens more … b" in text


def test_positions_are_rows_and_runs() -> None:
    page = Page(preview_html(preview(sample())))
    lines = {one["class"]: one["points"].split() for one in page.all("polyline")}
    assert set(lines) == {"t", "h", "w"}
    assert lines["t"][0] == "0.0,100.0"
    assert lines["w"][-1] == "1000.0,0.0"
    assert lines["w"][5] == f"500.0,{100 - 5 * 100 / 7:.1f}"
    assert len(lines["h"]) == 11
    assert "image 1 × 2 × 3" in page.text
    for row in ("3-8", "3-4", "3-5", "9-10"):
        assert row in page.text


def test_long_positions_are_thinned_and_runs_folded() -> None:
    num_tokens = 40_000
    spans = tuple(
        ShownSpan(
            kind="text" if at % 2 else "video", start=at * 100, stop=at * 100 + 100, label="x"
        )
        for at in range(400)
    )
    ids = np.tile(np.arange(num_tokens), (3, 1))
    html = preview_html(preview(sample(num_tokens=num_tokens, position_ids=ids, spans=spans)))
    assert "384 runs more" in html
    assert len(html) < 300_000
    points = Page(html).all("polyline")[0]["points"].split()
    assert 100 < len(points) < 3000
    assert (points[0], points[-1]) == ("0.0,100.0", "1000.0,0.0")


def test_frames_stand_in_their_grids() -> None:
    first, second = view_grids(video())
    assert [said for _, said in first.frames] == ["frame 0, 0.00 s", "frame 5, 0.62 s"]
    assert [said for _, said in second.frames] == [
        "frame 10, 1.25 s",
        "frame 15, 1.88 s, repeated",
    ]
    text = Page(preview_html(preview(sample(videos=(video(),), num_videos=1)))).text
    assert "grid 1 of 0 to 1, 1.56 s" in text
    assert "second_per_grid_ts 1.25" in text
    assert "the positions count seconds" in text
    assert "4 taken from 2.50 s; 4 shown" in text


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"fate": "kept"}, "kept as it is"),
        ({"policies": ("shrink",), "shrunk_to": 0.614}, "fitted, shrink: 61.4 % of the pixels"),
        (
            {"policies": ("split", "shrink"), "piece": 1, "num_pieces": 4, "shrunk_to": 0.5},
            "fitted, split: piece 2 of 4, shrink: 50 % of the pixels",
        ),
        (
            {"policies": ("split", "shrink"), "piece": 0, "num_pieces": 4},
            "fitted, split: piece 1 of 4",
        ),
        ({"policies": ("trim",), "turns": (4, 8)}, "fitted, trim: begins at turn 5"),
        (
            {"policies": ("split",), "turns": (2, 4)},
            "fitted, split: the other pieces have no trained answer",
        ),
    ],
)
def test_what_fitting_did_is_said(changes: dict[str, Any], told: str) -> None:
    assert fit_text(replace(KEPT, **({"fate": "fitted"} | changes))) == told


def test_sizes_that_fitting_changed_are_both_said() -> None:
    text = Page(preview_html(preview(sample()))).text
    assert "84 × 56 pixels, shrunk from 224 × 112" in text
    whole = replace(PICTURE, full_size=PICTURE.seen_size)
    assert "shrunk" not in Page(preview_html(preview(sample(pictures=(whole,))))).text


def test_the_length_bar_is_against_max_length() -> None:
    page = Page(preview_html(preview(sample())))
    [bar] = page.all("svg", "length")
    assert bar["viewbox"] == "0 0 100 10"
    assert bar["aria-label"] == "11 of 100 tokens"
    assert page.all("rect", "vision")[0]["width"] == "6"
    assert "11 %" in page.text


def test_what_is_left_out_is_listed_and_counted() -> None:
    left_out = tuple(
        LeftOut(origin=f"r:{line}", fate="dropped", field=None, reason="too long")
        for line in range(20)
    )
    fates = {"kept": 1, "fitted": 0, "dropped": 30, "quarantined": 4}
    text = Page(preview_html(preview(sample(), fates=fates, left_out=left_out))).text
    assert "30 dropped, 4 quarantined; the first 20" in text
    assert "r:19" in text
    assert "Left out" not in Page(preview_html(preview(sample()))).text


def test_what_has_no_shape_is_made_visible() -> None:
    assert visible_text("a\x00\x1b[31m\u202e\ufeffb\t\n") == "a␀␛[31m⟨U+202E⟩⟨U+FEFF⟩b\t\n"
    assert visible_text("caf\udce9") == "caf?"
    assert visible_text("猫 🐈 \xa0ß") == "猫 🐈 \xa0ß"


def test_a_file_name_that_is_not_utf8_does_not_stop_the_page(tmp_path: Path) -> None:
    page = tmp_path / "deep" / "page.html"
    write_preview(preview(sample(pictures=(replace(PICTURE, name="caf\udce9.png"),))), page)
    assert "caf?.png" in page.read_text(encoding="utf-8")
    assert [path.name for path in page.parent.iterdir()] == ["page.html"]


def test_a_long_picture_scrolls() -> None:
    strip = replace(
        PICTURE,
        seen_size=(28, 2996),
        grid_thw=(1, 2, 214),
        pixels=np.zeros((28, 2996, 3), dtype=np.uint8),
    )
    canvas = view_picture(0, strip, ()).canvas
    assert canvas is not None
    assert canvas.scrolls
    assert canvas.shown_height >= 28
    assert "it scrolls" in preview_html(preview(sample(pictures=(strip,))))
