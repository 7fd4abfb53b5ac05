"""Videos as lists of pictures: every form, every fault, their plan and their pixels."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.data.conversation import (
    Conversation,
    Message,
    Origin,
    TextPart,
    VideoPart,
)
from sightline.data.formats import MediaFolder
from sightline.data.frames import each_frame_of, frames_of
from sightline.data.index.schema import digest_of, name_of_medium, stamp_of_medium
from sightline.data.media import PlannedVideo, plan_media
from sightline.errors import MediaError
from sightline.geometry import FrameSampling, Patching, PixelBudget, Preprocessing

ORIGIN = Origin(file=Path("train.jsonl"), line=3, index=2)
PATCHING = Patching(patch_size=14, temporal_patch_size=2, spatial_merge_size=2)
BUDGET = PixelBudget(min_pixels=28 * 28, max_pixels=56 * 56)
PREPROCESSING = Preprocessing(
    image_patching=PATCHING,
    image_budget=BUDGET,
    video_patching=PATCHING,
    video_budget=BUDGET,
    video_budget_scope="per_frame",
    sampling=FrameSampling(
        rule="arange_truncated", fps=4.0, min_frames=4, max_frames=6, temporal_patch_size=2
    ),
    timestamps_in_text=False,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index in range(7):
        Image.new("RGB", (64, 48), (30 * index, 0, 255)).save(tmp_path / f"{index}.png")
    Image.new("RGB", (64, 50)).save(tmp_path / "other.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    return tmp_path


def names(count: int) -> list[str]:
    return [f"{index}.png" for index in range(count)]


def parsed(folder: Path, value: object) -> VideoPart:
    part = MediaFolder(root=folder).part(value, "video", origin=ORIGIN, field="videos[0]")
    assert isinstance(part, VideoPart)
    return part


def said(part: VideoPart) -> Conversation:
    message = Message(role="user", parts=(part, TextPart(text="?")), field="messages[0]")
    return Conversation(messages=(message,), origin=ORIGIN)


def planned(folder: Path, value: object) -> PlannedVideo:
    _, [video] = plan_media(said(parsed(folder, value)), PREPROCESSING)
    return video


@pytest.mark.parametrize(
    ("more", "seconds", "fps"),
    [
        ({}, None, None),
        ({"times": [0, 0.5, 2.0]}, (0.0, 0.5, 2.0), None),
        ({"fps": 3}, None, 3.0),
        ({"sample_fps": 0.5, "times": None}, None, 0.5),
    ],
)
def test_forms(folder: Path, more: dict, seconds: tuple | None, fps: float | None) -> None:
    files = tuple(folder / name for name in names(3))
    expected = VideoPart(
        path=files[0], field="videos[0]", frames=files, frame_seconds=seconds, frame_fps=fps
    )
    assert parsed(folder, {"frames": names(3), "path": None, **more}) == expected
    assert parsed(folder, {"video": names(3), **more}) == expected
    if not more:
        assert parsed(folder, names(3)) == expected
    assert expected.files == files


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([], ": the list of frames is empty.\nName its pictures."),
        (["0.png", 7], "[1]: the path of a picture expected, found int.\n"
         "A list of frames names picture files."),
        ({"frames": names(2), "times": [0.0]}, ".times: 1 times for 2 frames.\n"
         "Give the seconds of every frame."),
        ({"frames": names(2), "times": 1.0}, ".times: a list of seconds expected, found float.\n"
         "Give the seconds of every frame."),
        ({"frames": names(2), "times": [0.0, "1"]}, ".times[1]: a number expected, found str.\n"
         "Write it without quotes."),
        ({"frames": names(2), "times": [0.0, float("nan")]}, ".times[1]: nan is no time.\n"
         "Give a finite number."),
        ({"frames": names(3), "times": [0.0, 2.0, 1.5]}, ".times[2]: 1.5 s follows 2 s; every "
         "frame is later than the one before.\nOrder the frames by their times."),
        ({"frames": names(2), "times": [1.0, 1.0]}, ".times[1]: 1 s follows 1 s; every frame is "
         "later than the one before.\nOrder the frames by their times."),
        ({"frames": names(2), "times": [-1.0, 1.0]}, ".times[0]: -1 s is before the beginning.\n"
         "Times count from the beginning of the video."),
        ({"frames": names(2), "fps": 0}, ": 0 frames a second; the rate must be positive.\n"
         "Give the rate at which the frames were taken."),
        ({"frames": names(2), "fps": 2, "times": [0, 1]}, ": both times and a rate are given.\n"
         "Give one: times are the truth."),
        ({"frames": names(2), "start": 2}, ": start beside a list of frames is not read.\n"
         "Known: frames, times, fps."),
    ],
)  # fmt: skip
def test_faults_of_a_list(folder: Path, value: object, told: str) -> None:
    with pytest.raises(MediaError) as caught:
        parsed(folder, value)
    assert str(caught.value) == f"train.jsonl:3: videos[0]{told}"
    assert caught.value.code == "media.wrong"


def test_a_frame_that_is_not_there(folder: Path) -> None:
    with pytest.raises(MediaError) as caught:
        parsed(folder, {"frames": ["0.png", "none.png"]})
    assert str(caught.value).startswith(
        f"train.jsonl:3: videos[0].frames[1]: {folder}/none.png does not exist."
    )


def test_the_plan_of_a_list_has_its_times(folder: Path) -> None:
    at_rate = planned(folder, {"frames": names(4), "fps": 0.5})
    assert (at_rate.height, at_rate.width) == (48, 64)
    assert at_rate.resized == (56, 56)
    assert at_rate.grid_thw == (2, 4, 4)
    assert at_rate.frame_indices == (0, 1, 2, 3)
    assert at_rate.timestamps == (1.0, 5.0)
    assert at_rate.seconds_per_grid == pytest.approx(4.0)
    timed = planned(folder, {"frames": names(3), "times": [1.0, 2.0, 5.0]})
    assert timed.timestamps == (1.5, 5.0)
    assert timed.seconds_per_grid == pytest.approx(4.0)
    # Neither times nor rate: as taken at data.videos.fps, four a second here.
    assert planned(folder, names(4)).timestamps == (0.125, 0.625)
    assert not timed.is_plain


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (["0.png", "1.png", "other.png"], "[2]: {folder}/other.png is 64 x 50 pixels, and "
         "{folder}/0.png is 64 x 48: the frames of a video have one size.\n"
         "Bring the pictures to one size, or leave the sample out."),
        (["0.png"], ": {folder}/0.png: the list has 1 frame, but one temporal grid takes 2."),
        (names(7), ": {folder}/0.png: the list has 7 frames, over max_frames 6. Frames of a list "
         "are all taken: list fewer, or raise data.videos.max_frames."),
        (["0.png", "broken.png"], "[1]: {folder}/broken.png is not an image that Pillow can read."
         "\nMend or replace the file, or leave the sample out."),
    ],
)  # fmt: skip
def test_lists_that_cannot_be_planned(folder: Path, value: object, told: str) -> None:
    with pytest.raises(MediaError) as caught:
        planned(folder, value)
    assert str(caught.value) == "train.jsonl:3: videos[0]" + told.replace("{folder}", str(folder))


def test_pixels_are_those_of_the_pictures(folder: Path) -> None:
    video = planned(folder, ["3.png", "0.png", "3.png"])
    frames = frames_of(video, ORIGIN)
    assert frames.shape == (3, 48, 64, 3)
    assert frames.dtype == np.uint8
    assert frames[:, 0, 0, 0].tolist() == [90, 0, 90]
    for one, same in zip(each_frame_of(video, ORIGIN), frames, strict=True):
        np.testing.assert_array_equal(one, same)


def test_a_picture_that_changed_its_size(folder: Path) -> None:
    video = planned(folder, names(3))
    Image.new("RGB", (32, 32)).save(folder / "1.png")
    with pytest.raises(MediaError) as caught:
        frames_of(video, ORIGIN)
    assert str(caught.value) == (
        f"train.jsonl:3: videos[0][1]: {folder}/1.png is 32 x 32 pixels now, and was 64 x 48 when "
        "the data were read.\nThe file changed since: start again, and it is read anew."
    )


def test_a_frame_asked_for_twice_is_given_twice(make_video: object, tmp_path: Path) -> None:
    path = make_video.write_steady_video(tmp_path / "a.mp4", 12)  # type: ignore[attr-defined]
    part = VideoPart(path=path, field="videos[0]")
    _, [video] = plan_media(said(part), PREPROCESSING)
    twice = dataclasses.replace(
        video, taken=dataclasses.replace(video.taken, indices=(0, 3, 3, 7), ticks=(0, 3, 4, 7))
    )
    frames = frames_of(twice, ORIGIN)
    assert np.array_equal(frames[1], frames[2])
    assert not np.array_equal(frames[1], frames[3])


def test_the_index_sees_any_frame_change(folder: Path) -> None:
    part = parsed(folder, names(3))
    name = name_of_medium(part)
    before = stamp_of_medium(name)
    sizes = [path.stat().st_size for path in part.files]
    assert before == (sum(sizes), max(path.stat().st_mtime_ns for path in part.files))
    os.utime(folder / "0.png", ns=(0, 2_000_000_000_000_000_000))
    touched = stamp_of_medium(name)
    assert touched != before
    Image.new("RGB", (64, 48), (1, 2, 3)).resize((640, 480)).save(folder / "1.png")
    assert stamp_of_medium(name)[0] != touched[0]
    (folder / "1.png").unlink()
    assert stamp_of_medium(name) == (None, None)


def test_lists_with_the_same_first_frame_are_told_apart(folder: Path) -> None:
    values = [names(2), names(3), {"frames": names(2), "fps": 1}, {"frames": names(2), "fps": 2}]
    digests = {digest_of(said(parsed(folder, value))) for value in values}
    assert len(digests) == len(values)


def test_the_forms_of_the_documentation(folder: Path) -> None:
    (folder / "f").mkdir()
    for index in range(3):
        Image.new("RGB", (64, 48)).save(folder / f"f/{index}.jpg")
    text = (Path(__file__).parents[3] / "docs" / "videos.md").read_text()
    lines = re.findall(r"^\{.*\}$", text, flags=re.MULTILINE)
    rows = [json.loads(line) for line in lines]
    found = [
        parsed(folder, row["videos"][0])
        if "videos" in row
        else parsed(folder, {key: row[key] for key in row if key != "type"})
        for row in rows
    ]
    assert [len(part.files) for part in found] == [3, 2, 2, 2]
    assert [part.frame_seconds for part in found] == [None, (12.0, 13.5), None, None]
    assert [part.frame_fps for part in found] == [None, None, 0.5, 0.5]
