"""Make one sample after the other: draw it, save its media, ask about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sightline.data.shapes.clips import Clip, draw_frames, pick_codec, sample_clip, write_video
from sightline.data.shapes.figures import Picture, draw_picture, sample_picture
from sightline.data.shapes.layouts import Exchange, Json, MediaFile
from sightline.data.shapes.questions import (
    DESCRIBE,
    DETECT,
    PictureTask,
    clip_question,
    clip_task,
    count_answer,
    picture_answer,
    picture_task,
)
from sightline.data.shapes.request import ShapesRequest

# Independent streams of random numbers, so that one kind of sample does not move another.
PICTURES, CLIPS, SEVERAL, BACKGROUNDS = range(4)
NUM_DRAWS = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """A conversation and the truth about its media files, a line of ``boxes.jsonl`` each."""

    exchanges: tuple[Exchange, ...]
    truths: tuple[Json, ...]
    num_shapes: int

    def files(self) -> Iterator[MediaFile]:
        """The media files, in the order in which the model sees them."""
        for exchange in self.exchanges:
            yield from (part for part in exchange.question if isinstance(part, MediaFile))


class SampleMaker:
    """Draws samples into a folder and keeps their answers apart.

    Attributes:
        num_samples: Samples that will be made.
        num_repeated_answers: Pictures so far whose answer an earlier one has as well.
        codec: The codec of the videos; None: there are none.
    """

    def __init__(self, folder: Path, request: ShapesRequest) -> None:
        self.num_samples = request.num_images + request.num_videos + request.multi_image
        self.num_repeated_answers = 0
        self.codec = pick_codec() if request.num_videos else None
        self._folder = folder
        self._request = request
        self._answers: set[str] = set()

    def samples(self) -> Iterator[Sample]:
        """The samples: single pictures, videos, then rows of several pictures."""
        if self._request.num_images + self._request.multi_image:
            (self._folder / "images").mkdir()
        if self._request.num_videos:
            (self._folder / "videos").mkdir()
        for index in range(self._request.num_images):
            yield self._single(index)
        for index in range(self._request.num_videos):
            yield self._video(index)
        for index in range(self._request.multi_image):
            yield self._several(index)

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self._request.seed, *key])

    def _single(self, index: int) -> Sample:
        task = picture_task(self._request.task, index)
        picture, answer = self._new_picture((PICTURES, index), task)
        file = self._save_picture(f"{index:05d}", (PICTURES, index), picture)
        question = (file, DETECT if task == "detect" else DESCRIBE)
        return Sample(
            exchanges=(Exchange(question=question, answer=answer),),
            truths=(_picture_truth(file, picture),),
            num_shapes=len(picture.figures),
        )

    def _several(self, index: int) -> Sample:
        """Two pictures in the first turn; where the number is odd, a third in the second turn."""
        task = picture_task(self._request.task, index)
        made: list[tuple[Picture, str, MediaFile]] = []
        for number in range(2 + index % 2):
            key = (SEVERAL, index, number)
            picture, answer = self._new_picture(key, task)
            file = self._save_picture(f"several_{index:05d}_{number + 1}", key, picture)
            made.append((picture, answer, file))
        pictures, answers, files = zip(*made, strict=True)
        wish = "Detect every shape in" if task == "detect" else "Describe"
        ending = " Answer in JSON." if task == "detect" else ""
        ask = f"{wish} the second picture.{ending}"
        first = ("The first picture:", files[0], "The second picture:", files[1], ask)
        second: tuple[str | MediaFile, ...] = ("How many shapes does the first picture show?",)
        counted = pictures[0]
        if len(files) == 3:
            second = ("A third picture:", files[2], "How many shapes does it show?")
            counted = pictures[2]
        return Sample(
            exchanges=(
                Exchange(question=first, answer=answers[1]),
                Exchange(question=second, answer=count_answer(counted)),
            ),
            truths=tuple(map(_picture_truth, files, pictures)),
            num_shapes=sum(len(picture.figures) for picture in pictures),
        )

    def _video(self, index: int) -> Sample:
        task = clip_task(self._request.task, index)
        clip = sample_clip(
            self._rng(CLIPS, index),
            size=(self._request.height, self._request.width),
            num_frames=self._request.num_frames,
            fps=self._request.fps,
            max_shapes=self._request.max_shapes,
            late={"direction": None, "appearance": 0, "describe": 1}[task],
        )
        file = MediaFile(kind="video", path=f"videos/{index:05d}.mp4")
        assert self.codec is not None
        frames = draw_frames(self._rng(BACKGROUNDS, CLIPS, index), clip)
        size = (clip.height, clip.width)
        write_video(self._folder / file.path, frames, size=size, fps=clip.fps, codec=self.codec)
        question, answer = clip_question(clip, task)
        return Sample(
            exchanges=(Exchange(question=(file, question), answer=answer),),
            truths=(_clip_truth(file, clip),),
            num_shapes=len(clip.tracks),
        )

    def _new_picture(self, key: tuple[int, ...], task: PictureTask) -> tuple[Picture, str]:
        """A picture whose answer no earlier picture has, as long as one is found."""
        request = self._request
        attempt = 0
        while True:
            picture = sample_picture(
                self._rng(*key, attempt),
                height=request.height,
                width=request.width,
                max_shapes=request.max_shapes,
            )
            answer = picture_answer(picture, task, request.box_space)
            attempt += 1
            if answer not in self._answers or attempt == NUM_DRAWS:
                break
        self.num_repeated_answers += answer in self._answers
        self._answers.add(answer)
        return picture, answer

    def _save_picture(self, name: str, key: tuple[int, ...], picture: Picture) -> MediaFile:
        file = MediaFile(kind="image", path=f"images/{name}.png")
        drawn = draw_picture(self._rng(BACKGROUNDS, *key), picture)
        # The grain does not compress, so more effort costs time and saves nothing.
        drawn.save(self._folder / file.path, compress_level=3)
        return file


def _picture_truth(file: MediaFile, picture: Picture) -> Json:
    shapes = [{"label": figure.label, "box": list(figure.box)} for figure in picture.figures]
    return {
        "file": file.path,
        "kind": "image",
        "height": picture.height,
        "width": picture.width,
        "shapes": shapes,
    }


def _clip_truth(file: MediaFile, clip: Clip) -> Json:
    shapes = [{"label": track.label, "boxes": track.boxes()} for track in clip.tracks]
    return {
        "file": file.path,
        "kind": "video",
        "height": clip.height,
        "width": clip.width,
        "num_frames": clip.num_frames,
        "fps": clip.fps,
        "shapes": shapes,
    }
