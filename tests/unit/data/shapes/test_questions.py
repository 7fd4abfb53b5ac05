from __future__ import annotations

import numpy as np

from sightline.data.shapes.clips import Clip, Track
from sightline.data.shapes.drawing import draw_mask
from sightline.data.shapes.figures import Figure, Picture
from sightline.data.shapes.questions import (
    box_in_space,
    clip_question,
    clip_task,
    count_answer,
    description,
    detection,
    picture_task,
)

PICTURE = Picture(
    figures=(
        Figure(colour="red", shape="square", left=10, top=20, mask=draw_mask("square", 30)),
        Figure(colour="orange", shape="square", left=60, top=150, mask=draw_mask("square", 20)),
        Figure(colour="blue", shape="square", left=150, top=80, mask=draw_mask("square", 40)),
    ),
    height=200,
    width=250,
)


def track(direction: str | None, seconds: int) -> Track:
    return Track(
        colour="orange" if seconds else "blue",
        shape="star",
        mask=draw_mask("star", 8),
        corners=np.zeros((16, 2), dtype=np.int64),
        direction=direction,
        appears_seconds=seconds,
        first_frame=seconds * 4,
    )


def clip(*tracks: Track) -> Clip:
    return Clip(tracks=tracks, height=32, width=32, num_frames=16, fps=4.0)


def test_detection_in_pixels_has_one_fixed_writing() -> None:
    assert detection(PICTURE, "pixels") == (
        '[{"bbox_2d": [10, 20, 40, 50], "label": "red square"}, '
        '{"bbox_2d": [60, 150, 80, 170], "label": "orange square"}, '
        '{"bbox_2d": [150, 80, 190, 120], "label": "blue square"}]'
    )


def test_thousandths_scale_each_axis_by_its_own_side() -> None:
    assert box_in_space((10, 20, 40, 50), PICTURE, "thousandths") == [40, 100, 160, 250]
    assert box_in_space((0, 0, 250, 200), PICTURE, "thousandths") == [0, 0, 1000, 1000]


def test_description_names_the_places() -> None:
    assert description(PICTURE) == (
        "A red square at the top left, an orange square at the bottom left and a blue square on "
        "the right."
    )


def test_counts_have_a_singular() -> None:
    one = Picture(figures=PICTURE.figures[:1], height=200, width=250)
    assert count_answer(one) == "It shows 1 shape."
    assert count_answer(PICTURE) == "It shows 3 shapes."


def test_questions_about_videos() -> None:
    assert clip_question(clip(track("right", 0)), "direction") == (
        "Which way does the blue star move?",
        "It moves right.",
    )
    assert clip_question(clip(track(None, 1)), "appearance") == (
        "After how many seconds does the orange star appear?",
        "It appears after 1 second.",
    )
    assert clip_question(clip(track("up", 0), track(None, 2)), "describe") == (
        "Describe what happens in the video.",
        "A blue star moves up. An orange star appears after 2 seconds.",
    )


def test_appearance_asks_for_the_direction_where_nothing_is_late() -> None:
    assert clip_question(clip(track("down", 0)), "appearance")[1] == "It moves down."


def test_mixed_takes_turns() -> None:
    assert [picture_task("mixed", index) for index in range(3)] == ["detect", "describe", "detect"]
    assert picture_task("describe", 0) == "describe"
    assert [clip_task("mixed", i) for i in range(3)] == ["direction", "appearance", "describe"]
    assert [clip_task("detect", i) for i in range(3)] == ["direction", "appearance", "direction"]
