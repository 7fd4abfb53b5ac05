"""What is asked about a picture or a video, and the answer."""

from __future__ import annotations

import json
from typing import Literal

from sightline.data.shapes.clips import Clip, Track
from sightline.data.shapes.drawing import PixelBox
from sightline.data.shapes.figures import Figure, Picture

Task = Literal["detect", "describe", "mixed"]
BoxSpace = Literal["pixels", "thousandths"]
PictureTask = Literal["detect", "describe"]
ClipTask = Literal["direction", "appearance", "describe"]

DETECT = "Detect every shape. Answer in JSON."
DESCRIBE = "Describe the picture."
PLACES = (
    ("at the top left", "at the top", "at the top right"),
    ("on the left", "in the centre", "on the right"),
    ("at the bottom left", "at the bottom", "at the bottom right"),
)


def picture_task(task: Task, index: int) -> PictureTask:
    """What is asked about the picture of that number; ``mixed`` takes turns."""
    if task == "mixed":
        return "detect" if index % 2 == 0 else "describe"
    return task


def clip_task(task: Task, index: int) -> ClipTask:
    """What is asked about the video of that number; ``mixed`` takes turns."""
    kinds: dict[Task, tuple[ClipTask, ...]] = {
        "detect": ("direction", "appearance"),
        "describe": ("describe",),
        "mixed": ("direction", "appearance", "describe"),
    }
    return kinds[task][index % len(kinds[task])]


def picture_answer(picture: Picture, task: PictureTask, box_space: BoxSpace) -> str:
    """The answer to the question of a picture."""
    return detection(picture, box_space) if task == "detect" else description(picture)


def detection(picture: Picture, box_space: BoxSpace) -> str:
    """The figures as a JSON list, left to right, in one fixed writing.

    ``[{"bbox_2d": [12, 30, 92, 110], "label": "red circle"}]``
    """
    rows = [
        {"bbox_2d": box_in_space(figure.box, picture, box_space), "label": figure.label}
        for figure in picture.figures
    ]
    return json.dumps(rows, separators=(", ", ": "))


def box_in_space(box: PixelBox, picture: Picture, box_space: BoxSpace) -> list[int]:
    """A box as the answer writes it: pixels of the file, or thousandths of each side, rounded."""
    if box_space == "pixels":
        return list(box)
    sides = (picture.width, picture.height) * 2
    return [round(1000 * value / side) for value, side in zip(box, sides, strict=True)]


def description(picture: Picture) -> str:
    """The figures in one sentence, left to right, each with its place."""
    phrases = [f"{_an(figure.label)} {_place(figure, picture)}" for figure in picture.figures]
    return _sentence(_listed(phrases))


def count_answer(picture: Picture) -> str:
    """How many figures the picture shows."""
    count = len(picture.figures)
    return "It shows 1 shape." if count == 1 else f"It shows {count} shapes."


def clip_question(clip: Clip, task: ClipTask) -> tuple[str, str]:
    """Question and answer about a video; the first track is the one that is asked about.

    Where nothing appears late, ``appearance`` asks for the direction.
    """
    if task == "describe":
        return "Describe what happens in the video.", " ".join(map(_event, clip.tracks))
    asked = clip.tracks[0]
    if asked.direction is not None:
        return f"Which way does the {asked.label} move?", f"It moves {asked.direction}."
    question = f"After how many seconds does the {asked.label} appear?"
    return question, f"It appears after {_seconds(asked.appears_seconds)}."


def _event(track: Track) -> str:
    if track.direction is not None:
        return _sentence(f"{_an(track.label)} moves {track.direction}")
    return _sentence(f"{_an(track.label)} appears after {_seconds(track.appears_seconds)}")


def _seconds(count: int) -> str:
    return "1 second" if count == 1 else f"{count} seconds"


def _place(figure: Figure, picture: Picture) -> str:
    x1, y1, x2, y2 = figure.box
    column = 3 * (x1 + x2) // (2 * picture.width)
    row = 3 * (y1 + y2) // (2 * picture.height)
    return PLACES[row][column]


def _an(label: str) -> str:
    return f"an {label}" if label[0] in "aeiou" else f"a {label}"


def _listed(phrases: list[str]) -> str:
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
