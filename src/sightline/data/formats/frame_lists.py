"""A video as a list of pictures: its frames, taken by somebody already, and their times.

    ["f/0.jpg", "f/1.jpg", ...]
    {"frames": ["f/0.jpg", ...], "times": [0.0, 0.5, ...]}      seconds of every frame
    {"frames": ["f/0.jpg", ...], "fps": 2.0}                    frames a second

Without times and rate they count as taken at ``data.videos.fps``. Qwen's own spelling,
``{"video": [...], "sample_fps": 2.0}``, says the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Protocol, TypeGuard

from sightline.data.conversation import Origin, VideoPart
from sightline.errors import MediaError

_FRAMES = ("frames", "video")
_RATES = ("fps", "sample_fps")
_TIMES = "times"
# The clock of given times counts microseconds.
_MIN_SPACING_SECONDS = 1e-6


class Resolve(Protocol):
    """From a path as a row has it to a file."""

    def __call__(self, written: str, *, origin: Origin, field: str) -> Path:
        """See `sightline.data.formats.media.MediaFolder.resolve`."""
        ...


def is_frame_list(value: object) -> TypeGuard[list[object] | Mapping[str, object]]:
    """Whether a row gives a video by its frames.

    >>> is_frame_list(["a.jpg"]), is_frame_list({"frames": ["a.jpg"]}), is_frame_list("a.mp4")
    (True, True, False)
    >>> is_frame_list({"path": "a.mp4", "bytes": None})
    False
    """
    if isinstance(value, Mapping):
        return any(isinstance(value.get(name), list) for name in _FRAMES)
    return isinstance(value, list)


def read_frame_list(
    value: list[object] | Mapping[str, object], resolve: Resolve, *, origin: Origin, field: str
) -> VideoPart:
    """The video that a row gives by its frames.

    Args:
        value: What the row has, see `is_frame_list`.
        resolve: Finds the file of a path.
        origin: The sample, for the message.
        field: The field, for the message.

    Raises:
        MediaError: A path, time or rate is wrong, or their numbers differ.
    """
    row = _Row(origin=origin, field=field)
    given = {"frames": value} if isinstance(value, list) else _present(value)
    name = next(name for name in _FRAMES if isinstance(given.get(name), list))
    paths = row.paths(given.pop(name), None if isinstance(value, list) else name, resolve)
    times, rates = given.pop(_TIMES, None), [given.pop(rate, None) for rate in _RATES]
    if given:
        known = ", ".join((*_FRAMES[:1], _TIMES, *_RATES[:1]))
        raise row.error(
            f"{', '.join(given)} beside a list of frames is not read.", f"Known: {known}."
        )
    fps = next((rate for rate in rates if rate is not None), None)
    if times is not None and fps is not None:
        raise row.error("both times and a rate are given.", "Give one: times are the truth.")
    return VideoPart(
        path=paths[0],
        field=field,
        frames=paths,
        frame_seconds=None if times is None else row.times(times, len(paths)),
        frame_fps=None if fps is None else row.rate(fps),
    )


class _Row:
    """Where a list stands, for the messages about it."""

    def __init__(self, *, origin: Origin, field: str) -> None:
        self._origin = origin
        self._field = field

    def error(self, what: str, fix: str, inner: str | None = None) -> MediaError:
        field = self._field if inner is None else f"{self._field}{inner}"
        error = self._origin.error(what, field=field, fix=fix, code="media.wrong", kind=MediaError)
        assert isinstance(error, MediaError)
        return error

    def paths(self, written: object, name: str | None, resolve: Resolve) -> tuple[Path, ...]:
        assert isinstance(written, list)
        inner = "" if name is None or self._field.endswith(f".{name}") else f".{name}"
        if not written:
            raise self.error("the list of frames is empty.", "Name its pictures.", inner)
        found: list[Path] = []
        for index, item in enumerate(written):
            place = f"{inner}[{index}]"
            if not isinstance(item, str):
                what = f"the path of a picture expected, found {type(item).__name__}."
                raise self.error(what, "A list of frames names picture files.", place)
            found.append(resolve(item, origin=self._origin, field=f"{self._field}{place}"))
        return tuple(found)

    def times(self, given: object, num_frames: int) -> tuple[float, ...]:
        inner = f".{_TIMES}"
        if not isinstance(given, list):
            what = f"a list of seconds expected, found {type(given).__name__}."
            raise self.error(what, "Give the seconds of every frame.", inner)
        if len(given) != num_frames:
            what = f"{len(given)} times for {num_frames} frames."
            raise self.error(what, "Give the seconds of every frame.", inner)
        seconds = tuple(self._number(item, f"{inner}[{i}]") for i, item in enumerate(given))
        for index, (before, after) in enumerate(pairwise(seconds), 1):
            if after - before < _MIN_SPACING_SECONDS:
                raise self.error(
                    f"{after:g} s follows {before:g} s; every frame is later than the one before.",
                    "Order the frames by their times.",
                    f"{inner}[{index}]",
                )
        if seconds[0] < 0:
            what = f"{seconds[0]:g} s is before the beginning."
            raise self.error(what, "Times count from the beginning of the video.", f"{inner}[0]")
        return seconds

    def rate(self, given: object) -> float:
        number = self._number(given, "")
        if number <= 0:
            what = f"{number:g} frames a second; the rate must be positive."
            raise self.error(what, "Give the rate at which the frames were taken.")
        return number

    def _number(self, given: object, inner: str) -> float:
        if isinstance(given, bool) or not isinstance(given, int | float):
            what = f"a number expected, found {type(given).__name__}."
            raise self.error(what, "Write it without quotes.", inner)
        if not math.isfinite(given):
            raise self.error(f"{given} is no time.", "Give a finite number.", inner)
        return float(given)


def _present(value: Mapping[str, object]) -> dict[str, object]:
    """Without nulls, with which tables fill what a row does not have."""
    return {name: item for name, item in value.items() if item is not None}
