"""Configurations that disagree with themselves: each message as a user reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Refused = Callable[..., list[str]]
Loaded = Callable[..., Any]

DATA = "data:\n  train: a.json\n"


@pytest.mark.parametrize("section", ["images", "videos"])
def test_pixels_in_the_wrong_order(refused: Refused, section: str) -> None:
    text = f"model: m\noutput: o\n{DATA}  {section}:\n    max_pixels: 1000\n    min_pixels: 9000\n"
    assert refused(text=text) == [
        f"run.yaml:7: data.{section}.min_pixels: min_pixels is 9000, over max_pixels 1000. "
        "Lower min_pixels or raise max_pixels."
    ]


def test_equal_pixels_are_in_order(loaded: Loaded) -> None:
    images = loaded("", "data.images={min_pixels: 784, max_pixels: 784}").data.images
    assert (images.min_pixels, images.max_pixels) == (784, 784)


def test_frames_in_the_wrong_order(refused: Refused) -> None:
    assert refused("", "data.videos={min_frames: 8, max_frames: 6}") == [
        "--set data.videos={min_frames: 8, max_frames: 6}: data.videos.min_frames: "
        "min_frames is 8, over max_frames 6. Lower min_frames or raise max_frames."
    ]


def test_the_key_that_was_given_is_named_not_the_default(refused: Refused) -> None:
    assert refused("", "data.videos.max_frames=3") == [
        "--set data.videos.max_frames=3: data.videos.max_frames: "
        "min_frames is 4, over max_frames 3. Lower min_frames or raise max_frames."
    ]


def test_a_video_of_one_frame(refused: Refused) -> None:
    assert refused("", "data.videos.min_frames=1") == [
        "--set data.videos.min_frames=1: data.videos.min_frames: 1 is given. "
        "Input should be greater than or equal to 2."
    ]


def test_a_number_of_frames_takes_the_place_of_the_rate(loaded: Loaded) -> None:
    videos = loaded("", "data.videos.num_frames=16").data.videos
    assert (videos.fps, videos.num_frames) == (None, 16)
    # As a run directory keeps it, with every key.
    again = loaded("", f"data.videos={videos.model_dump_json()}").data.videos
    assert again == videos


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            "{fps: 2.0, num_frames: 16}",
            "num_frames: num_frames is 16 and fps is 2; either decides how many frames are taken. "
            "Remove one of them.",
        ),
        (
            "{fps: null}",
            "fps: neither fps nor num_frames says which frames are taken. Set one of them.",
        ),
        (
            "{num_frames: 16, max_frames: 8}",
            "num_frames: num_frames is 16, outside min_frames 4 to max_frames 8. "
            "Change one of them.",
        ),
        (
            "{num_frames: 2}",
            "num_frames: num_frames is 2, outside min_frames 4 to max_frames 768. "
            "Change one of them.",
        ),
    ],
)
def test_two_ways_to_take_frames(refused: Refused, given: str, said: str) -> None:
    assert refused("", f"data.videos={given}") == [f"--set data.videos={given}: data.videos.{said}"]


def test_everything_frozen(refused: Refused) -> None:
    assert refused("tuning: {language: freeze, projector: freeze}\n") == [
        "run.yaml:5: tuning: every tower is frozen, so the plan trains nothing; "
        "set language, projector or vision to lora or full."
    ]


@pytest.mark.parametrize("tower", ["language", "projector", "vision", "embeddings", "head"])
@pytest.mark.parametrize("mode", ["lora", "full"])
def test_any_one_tower_is_enough(loaded: Loaded, tower: str, mode: str) -> None:
    frozen = "tuning: {language: freeze, projector: freeze}\n"
    tuning = loaded(frozen, f"tuning.{tower}={mode}").tuning
    assert tuning.model_dump()[tower] == mode


def test_evaluation_without_data(refused: Refused, loaded: Loaded) -> None:
    assert refused("training:\n  eval_every: 10\n") == [
        "run.yaml:6: training.eval_every: eval_every is 10, but data.eval names no data. "
        "Name held-out data in data.eval, or remove eval_every."
    ]
    assert refused("training:\n  best_by: eval_loss\n") == [
        "run.yaml:6: training.best_by: best_by is eval_loss, but data.eval names no data. "
        "Name held-out data in data.eval, or remove best_by."
    ]
    assert refused("evaluation:\n  metrics: [map]\n") == [
        "run.yaml:6: evaluation.metrics: metrics names map, but data.eval names no data. "
        "Name held-out data in data.eval, or remove metrics."
    ]
    assert refused("training:\n  best_by: eval_anls\n", "data.eval=held.json") == [
        "run.yaml:6: training.best_by: best_by is eval_anls, and evaluation.metrics does not name "
        "anls. Write evaluation: {metrics: [anls]}, or remove best_by."
    ]
    assert refused("evaluation:\n  metrics: [map, map]\n", "data.eval=held.json") == [
        "run.yaml:6: evaluation.metrics: map stands twice; name each measure once."
    ]
    assert loaded("training:\n  best_by: eval_loss\n", "data.eval=5%").data.eval_share == 0.05
    with_data = loaded("training:\n  eval_every: 10\n", "data.eval=held.json")
    assert with_data.training.eval_every == 10


def test_held_out_data_are_named_or_a_share(refused: Refused, loaded: Loaded) -> None:
    assert refused("", "data.eval=held.json", "data.eval_share=0.1") == [
        "--set data.eval_share=0.1: data.eval_share: eval_share is 0.1, and eval names held.json. "
        "Remove one of them."
    ]
    data = loaded("", "data.eval=2.5 %").data
    assert (data.eval, data.eval_share, data.holds_out) == ([], 0.025, True)
    assert loaded("").data.holds_out is False


def test_no_training_data(refused: Refused) -> None:
    assert refused("", "data.train=[]") == [
        "--set data.train=[]: data.train: name at least one data file."
    ]


def test_a_negative_number(refused: Refused) -> None:
    assert refused("training:\n  learning_rate: -1e-4\n") == [
        "run.yaml:6: training.learning_rate: -0.0001 is given. Input should be greater than 0."
    ]
