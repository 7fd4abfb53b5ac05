"""Write a folder of synthetic pictures and videos with the data file that asks about them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sightline.data.shapes.layouts import Json, Layout, MediaKind, dataset_info, write_row
from sightline.data.shapes.questions import BoxSpace, Task
from sightline.data.shapes.request import ShapesRequest, refuse_taken
from sightline.data.shapes.samples import Sample, SampleMaker
from sightline.errors import DataError

TRAIN_FILE = "train.jsonl"
BOXES_FILE = "boxes.jsonl"
DATASET_INFO_FILE = "dataset_info.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class ShapesSummary:
    """What was written.

    Attributes:
        directory: The folder.
        train_file: The rows to train on.
        boxes_file: The truth about every media file.
        dataset_info_file: The declaration of a ShareGPT file; None for the other layouts.
        num_rows: Rows of the train file.
        num_images: Image files.
        num_videos: Video files.
        num_shapes: Shapes in all of them.
        num_repeated_answers: Pictures whose answer an earlier picture has as well. Above 0 only
            where more pictures were asked for than there are different answers.
        video_codec: ``libx264``, or ``mpeg4`` where PyAV was built without it; None: no videos.
    """

    directory: Path
    train_file: Path
    boxes_file: Path
    dataset_info_file: Path | None
    num_rows: int
    num_images: int
    num_videos: int
    num_shapes: int
    num_repeated_answers: int
    video_codec: str | None


def write_shapes(
    directory: Path,
    *,
    num_images: int = 16,
    num_videos: int = 0,
    height: int = 224,
    width: int = 224,
    max_shapes: int = 3,
    task: Task = "detect",
    box_space: BoxSpace = "pixels",
    layout: Layout = "official",
    multi_image: int = 0,
    seed: int = 0,
    num_frames: int = 16,
    fps: float = 8.0,
    on_progress: Callable[[int, int], None] | None = None,
) -> ShapesSummary:
    """Write pictures and videos of coloured shapes, ``train.jsonl`` and ``boxes.jsonl``.

    The same arguments give the same files, byte for byte, with the same versions of Pillow and
    PyAV. The k-th picture does not depend on how many there are, as long as no answer repeats.

    Boxes are ``[x1, y1, x2, y2]`` in whole pixels and half-open: x2 is the last column plus one,
    so that x2 - x1 is the width. A pixel belongs to a shape that covers at least half of it.
    Shapes of a picture never touch, and no two have one label; one that finds no room is left out.

    A family writes boxes in its own space. Qwen2.5-VL writes pixels of the picture *as the model
    sees it*: ``pixels`` is right for it as long as nothing is resized, which holds where height
    and width are multiples of 28 and the picture is within the pixel limits, as 224 by 224 is.
    Qwen2-VL and Qwen3-VL write 0 to 1000 of each side whatever the size: ``thousandths``.
    ``boxes.jsonl`` is in pixels of the file either way.

    Args:
        directory: A folder that is new or empty. It is made beside and renamed into place.
        num_images: Rows of one picture and one question.
        num_videos: Rows of one video and one question.
        height: Of pictures and videos, 32 to 8192 pixels; even where there are videos.
        width: The same.
        max_shapes: Most shapes in a picture or video, 1 to 64.
        task: ``detect`` asks for boxes and labels as JSON, left to right; ``describe`` for a
            sentence; ``mixed`` takes turns. Of videos, ``detect`` asks by turns which way a shape
            moves and after how many seconds one appears (the latter only in videos that last
            more than a second).
        box_space: The space of the boxes in the answers.
        layout: The shape of the rows. ``sharegpt`` also writes a ``dataset_info.json``.
        multi_image: Rows of two turns with two or three pictures between text, in addition.
        seed: 0 or more.
        num_frames: Of every video, at least 2.
        fps: Frames per second of every video.
        on_progress: Called after each row with the number of rows done and of all rows.

    Raises:
        DataError: The folder is not empty or cannot be written, or a value cannot be done.
            Nothing is left behind.
    """
    request = ShapesRequest(
        num_images=num_images,
        num_videos=num_videos,
        height=height,
        width=width,
        max_shapes=max_shapes,
        task=task,
        box_space=box_space,
        layout=layout,
        multi_image=multi_image,
        seed=seed,
        num_frames=num_frames,
        fps=fps,
    )
    directory = directory.absolute()
    with _explained(directory), _staged(directory) as staging:
        maker = SampleMaker(staging, request)
        samples = _counted(maker.samples(), maker.num_samples, on_progress)
        _write_files(staging, samples, layout)
    return _summary(directory, samples, maker, layout)


def _counted(
    samples: Iterator[Sample], total: int, on_progress: Callable[[int, int], None] | None
) -> list[Sample]:
    kept: list[Sample] = []
    for sample in samples:
        kept.append(sample)
        if on_progress is not None:
            on_progress(len(kept), total)
    return kept


def _write_files(folder: Path, samples: list[Sample], layout: Layout) -> None:
    _write_lines(folder / BOXES_FILE, [truth for sample in samples for truth in sample.truths])
    if layout == "sharegpt":
        kinds: set[MediaKind] = {file.kind for sample in samples for file in sample.files()}
        text = json.dumps(dataset_info(TRAIN_FILE, kinds), ensure_ascii=False, indent=2)
        (folder / DATASET_INFO_FILE).write_text(f"{text}\n", encoding="utf-8")
    _write_lines(folder / TRAIN_FILE, [write_row(sample.exchanges, layout) for sample in samples])


def _write_lines(path: Path, rows: list[Json]) -> None:
    lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def _summary(
    directory: Path, samples: list[Sample], maker: SampleMaker, layout: Layout
) -> ShapesSummary:
    kinds = [file.kind for sample in samples for file in sample.files()]
    return ShapesSummary(
        directory=directory,
        train_file=directory / TRAIN_FILE,
        boxes_file=directory / BOXES_FILE,
        dataset_info_file=directory / DATASET_INFO_FILE if layout == "sharegpt" else None,
        num_rows=len(samples),
        num_images=kinds.count("image"),
        num_videos=kinds.count("video"),
        num_shapes=sum(sample.num_shapes for sample in samples),
        num_repeated_answers=maker.num_repeated_answers,
        video_codec=maker.codec,
    )


@contextmanager
def _explained(directory: Path) -> Iterator[None]:
    """A full disk and a folder that may not be written, as errors of the user's."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        what = f"cannot be written: {reason}."
        fix = "Make room or name another folder; nothing was left behind."
        raise DataError(what, file=directory, fix=fix) from error


@contextmanager
def _staged(directory: Path) -> Iterator[Path]:
    """A folder to write in that becomes ``directory`` at the end, or goes away on any failure."""
    refuse_taken(directory)
    # A folder that is there may be a mount point or somebody's working directory: it is filled,
    # not replaced.
    fill = directory.is_dir()
    parent = directory if fill else directory.parent
    staging = parent / f".{directory.name}.{os.getpid()}.partial"
    staging.mkdir(parents=True)
    try:
        yield staging
        if fill:
            # The data file last: where it is, everything it names is.
            for entry in sorted(staging.iterdir(), key=lambda path: path.name == TRAIN_FILE):
                entry.rename(directory / entry.name)
        else:
            staging.rename(directory)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
