"""What is asked for, and whether it can be done."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from sightline.data.shapes.figures import NUM_LABELS
from sightline.data.shapes.layouts import Layout
from sightline.data.shapes.questions import BoxSpace, Task
from sightline.errors import DataError

MIN_SIDE_PIXELS = 32
MAX_SIDE_PIXELS = 8192
MAX_FPS = 240.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ShapesRequest:
    """The arguments of `write_shapes`, checked where they are given.

    Raises:
        DataError: A value that cannot be done; the message names it.
    """

    num_images: int
    num_videos: int
    height: int
    width: int
    max_shapes: int
    task: Task
    box_space: BoxSpace
    layout: Layout
    multi_image: int
    seed: int
    num_frames: int
    fps: float

    def __post_init__(self) -> None:
        self._check_counts()
        self._check_sides()
        self._check_video()
        for name, kind in (("task", Task), ("box_space", BoxSpace), ("layout", Layout)):
            value = {"task": self.task, "box_space": self.box_space, "layout": self.layout}[name]
            if value not in get_args(kind):
                known = ", ".join(get_args(kind))
                raise DataError(f"{value!r} is unknown.", field=name, fix=f"Known: {known}.")

    def _check_counts(self) -> None:
        for name, value in (
            ("num_images", self.num_images),
            ("num_videos", self.num_videos),
            ("multi_image", self.multi_image),
            ("seed", self.seed),
        ):
            if value < 0:
                raise DataError(f"{value} is below 0.", field=name)
        if self.num_images + self.num_videos + self.multi_image == 0:
            raise DataError(
                "num_images, num_videos and multi_image are all 0: there is nothing to write.",
                fix="Ask for at least one picture or video.",
            )
        if not 1 <= self.max_shapes <= NUM_LABELS:
            what = (
                f"{self.max_shapes} is outside 1 to {NUM_LABELS}, the number of labels there are."
            )
            raise DataError(what, field="max_shapes")

    def _check_sides(self) -> None:
        for name, value in (("height", self.height), ("width", self.width)):
            if not MIN_SIDE_PIXELS <= value <= MAX_SIDE_PIXELS:
                what = f"{value} pixels are outside {MIN_SIDE_PIXELS} to {MAX_SIDE_PIXELS}."
                raise DataError(what, field=name)

    def _check_video(self) -> None:
        if self.num_videos == 0:
            return
        for name, value in (("height", self.height), ("width", self.width)):
            if value % 2 == 1:
                what = f"{value} pixels are odd, and videos (yuv420p) need even sides."
                fix = f"Take {value - 1} or {value + 1}, or leave the videos out."
                raise DataError(what, field=name, fix=fix)
        if self.num_frames < 2:
            what = f"{self.num_frames} frames show no movement; at least 2 are needed."
            raise DataError(what, field="num_frames")
        if not (math.isfinite(self.fps) and 0.1 <= self.fps <= MAX_FPS):
            what = f"{self.fps} frames per second are outside 0.1 to {MAX_FPS:g}."
            raise DataError(what, field="fps")


def refuse_taken(directory: Path) -> None:
    """Refuse a folder that holds anything, and a path that is a file.

    Raises:
        DataError: It is one of these.
    """
    if directory.is_dir():
        num_entries = sum(1 for _ in directory.iterdir())
        if num_entries:
            raise DataError(
                f"the folder is not empty: it has {num_entries} "
                f"{'entry' if num_entries == 1 else 'entries'}.",
                file=directory,
                fix="Name a new or an empty folder; nothing is overwritten.",
            )
    elif directory.exists() or directory.is_symlink():
        raise DataError("is not a folder.", file=directory, fix="Name a new or an empty folder.")
