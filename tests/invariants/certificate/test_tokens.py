"""Faults in tokens, labels, pixels and positions, each found by its check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from sightline.data import IGNORE_INDEX
from sightline.records import read_json

# Tokens.


def test_another_chat_template(copy: Any) -> None:
    template = copy.run.merged / "chat_template.jinja"
    text = template.read_text(encoding="utf-8")
    changed = text.replace("You are a helpful assistant.", "You are a terse assistant.")
    assert changed != text
    template.write_text(changed, encoding="utf-8")
    findings = copy.expect({"tokens.same_ids"}, checks=copy.checks[:3])
    assert findings["tokens.same_ids"].figures["num_differing"] == 2


def test_another_pixel_budget(copy: Any) -> None:
    def halve(record: dict[str, Any]) -> None:
        record["image_processor"]["size"]["longest_edge"] = 112 * 168 // 2

    copy.edit_json(copy.run.merged / "processor_config.json", halve)
    faults = {"preprocessing.settings", "tokens.same_ids"}
    findings = copy.expect(faults, checks=copy.checks[:3])
    assert findings["tokens.same_ids"].figures["num_differing"] == 1
    assert findings["preprocessing.settings"].detail == (
        "image_budget.max_pixels: trained with 12845056, saved 9408"
    )


def test_another_frame_rate(copy: Any) -> None:
    def double(record: dict[str, Any]) -> None:
        record["video_processor"]["fps"] *= 2

    copy.edit_json(copy.run.merged / "processor_config.json", double)
    faults = {"preprocessing.settings", "tokens.same_ids"}
    findings = copy.expect(faults, checks=copy.checks[:3])
    assert findings["preprocessing.settings"].detail == "sampling.fps: trained with 2.0, saved 4.0"


def test_another_filter(copy: Any) -> None:
    """The pictures are not resized, so that nothing but the setting differs."""

    def blur(record: dict[str, Any]) -> None:
        record["image_processor"]["resample"] = int(Image.Resampling.BILINEAR)

    copy.edit_json(copy.run.merged / "processor_config.json", blur)
    findings = copy.expect({"preprocessing.settings"})
    assert findings["preprocessing.settings"].detail == (
        "recipe.image.resample: trained with bicubic, saved bilinear"
    )


def test_one_grey_level_of_a_picture(copy: Any, tmp_path: Path) -> None:
    """Too little for the logits' tolerance; the picture is another one all the same."""

    def touch(record: dict[str, Any]) -> None:
        [part] = [
            part
            for turn in record["samples"][copy.picture]["messages"]
            for part in turn["content"]
            if part["type"] == "image"
        ]
        with Image.open(part["image"]) as opened:
            picture = opened.convert("RGB")
        red, green, blue = picture.getpixel((40, 30))  # type: ignore[misc]
        picture.putpixel((40, 30), (red, green, blue ^ 1))
        picture.save(tmp_path / "touched.png")
        part["image"] = str(tmp_path / "touched.png")

    copy.edit_json(copy.run.probe, touch)
    findings = copy.expect({"preprocessing.pixels"}, may_fail={"logits.merged"})
    assert findings["preprocessing.pixels"].detail == "sample 0: the same grids, other grey levels"
    assert findings["preprocessing.pixels"].figures == {"num_samples": 2, "num_differing": 1}


def test_another_normalisation_of_pixels(copy: Any) -> None:
    """Tokens and positions are the same; only what the model sees is not."""

    def recentre(record: dict[str, Any]) -> None:
        record["image_processor"]["image_mean"] = [0.0, 0.0, 0.0]

    copy.edit_json(copy.run.merged / "processor_config.json", recentre)
    faults = {"preprocessing.settings", "preprocessing.pixels", "logits.merged"}
    copy.expect(faults, may_fail={"answers.alone", "answers.annotated"})


def _labelled(copy: Any, token: str | None) -> None:
    """Put a label on a token of the picture's prompt: on that one, or on a word."""
    vocabulary = {
        row["content"]: row["id"]
        for row in read_json(copy.run.merged / "tokenizer.json")["added_tokens"]
    }

    def label(tensors: dict[str, torch.Tensor]) -> None:
        ids, labels = tensors[f"{copy.picture}.input_ids"], tensors[f"{copy.picture}.labels"]
        if token is not None:
            place = int((ids == vocabulary[token]).nonzero()[0])
        else:
            # The last word of the question: before <|im_end|> and the turn that answers.
            start = int((labels != IGNORE_INDEX).nonzero()[0])
            ends = (ids[:start] == vocabulary["<|im_end|>"]).nonzero()
            place = int(ends[-1]) - 1
        assert labels[place] == IGNORE_INDEX
        labels[place] = ids[place]

    copy.edit_tensors(copy.run.probe_tensors, label)


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("<|image_pad|>", id="picture"),
        pytest.param("<|im_start|>", id="turn"),
        pytest.param("<|im_end|>", id="closing"),
        pytest.param(None, id="question"),
    ],
)
def test_a_label_outside_the_answer(copy: Any, token: str | None) -> None:
    _labelled(copy, token)
    findings = copy.expect({"tokens.labels"})
    assert findings["tokens.labels"].figures["num_differing"] == 1


@pytest.mark.parametrize("place", [0, 3, -1])
def test_an_answer_without_one_of_its_labels(copy: Any, place: int) -> None:
    """Its first word, one in the middle, or the token that closes it."""

    def drop(tensors: dict[str, torch.Tensor]) -> None:
        labels = tensors[f"{copy.picture}.labels"]
        labels[int((labels != IGNORE_INDEX).nonzero()[place])] = IGNORE_INDEX

    copy.edit_tensors(copy.run.probe_tensors, drop)
    copy.expect({"tokens.labels"})


def test_a_label_of_another_token(copy: Any) -> None:
    def swap(tensors: dict[str, torch.Tensor]) -> None:
        labels = tensors[f"{copy.picture}.labels"]
        first, second = (labels != IGNORE_INDEX).nonzero()[:2, 0].tolist()
        labels[first] = labels[second]

    copy.edit_tensors(copy.run.probe_tensors, swap)
    copy.expect({"tokens.labels"})


# Positions.


def test_positions_off_by_one(copy: Any) -> None:
    def shift(tensors: dict[str, torch.Tensor]) -> None:
        tensors[f"{copy.picture}.position_ids"][2, -1] += 1

    copy.edit_tensors(copy.run.probe_tensors, shift)
    findings = copy.expect({"positions.same_as_training"})
    assert findings["positions.same_as_training"].figures["num_differing"] == 1


def test_another_pace_of_time(copy: Any) -> None:
    """The video alone moves: a picture has no time."""

    def double(record: dict[str, Any]) -> None:
        record["vision_config"]["tokens_per_second"] *= 2

    copy.edit_json(copy.run.merged / "config.json", double)
    findings = copy.expect(
        {"positions.same_as_training", "logits.merged"},
        may_fail={"logits.adapter", "answers.alone", "answers.annotated"},
    )
    assert findings["positions.same_as_training"].figures["num_differing"] == 1
    picture, video = findings["logits.merged"].figures["per_sample"]
    assert picture < 1e-3 < video
