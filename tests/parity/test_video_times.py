"""Frames, times and tokens of videos equal those of the family's own processor.

Every comparison calls the real processor of transformers with the frames and with ``VideoMetadata``
that says when they are shown.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor
from transformers.video_utils import VideoMetadata, load_video

from sightline.checks.plain import plain_inputs
from sightline.config import DataConfig
from sightline.data import (
    Conversation,
    Encoder,
    Message,
    Origin,
    TextPart,
    VideoPart,
    load_pixels,
    video_metadata,
)
from sightline.data import chat_messages as to_chat
from sightline.data.frames import frames_of
from sightline.errors import LayoutError
from sightline.geometry import FrameSampling, sample_frames
from sightline.model import Checkpoint, open_checkpoint
from sightline.preparation import make_encoder
from sightline.training.probing import named_media

FAMILY_KEYS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
STEPS = random.Random(5).choices([20, 33, 120, 400], k=59)
VARYING = (0, *accumulate(STEPS))
TIMES = (0.0, 0.4, 1.15, 2.0, 3.7)


def opened(folder: Path, **videos: object) -> tuple[Checkpoint, Encoder]:
    data = DataConfig.model_validate({"train": "unused.jsonl", "videos": videos})
    checkpoint = open_checkpoint(str(folder), data)
    return checkpoint, make_encoder(checkpoint)


@pytest.fixture(scope="module", params=FAMILY_KEYS)
def model(
    request: pytest.FixtureRequest, tiny_folder: Callable[[str], Path]
) -> tuple[Checkpoint, Encoder]:
    return opened(tiny_folder(request.param), fps=3.0)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory, make_video: ModuleType) -> Path:
    """A video whose rate varies, one without a number of frames, a turned one, and pictures."""
    folder = tmp_path_factory.mktemp("media")
    make_video.write_timed_video(folder / "varying.mp4", VARYING)
    make_video.write_timed_video(folder / "varying.mkv", VARYING)
    make_video.write_steady_video(folder / "plain.mp4", 40)
    make_video.write_steady_video(folder / "uncounted.mkv", 40)
    make_video.turn(make_video.write_steady_video(folder / "turned.mp4", 40), 1)
    for index in range(len(TIMES)):
        Image.fromarray(make_video.picture(index)).save(folder / f"{index}.png")
    return folder


def conversation(part: VideoPart) -> Conversation:
    ask = Message(role="user", parts=(part, TextPart(text="When?")), field="messages[0]")
    tell = Message(role="assistant", parts=(TextPart(text="Now."),), field="messages[1]")
    return Conversation(messages=(ask, tell), origin=Origin(file=Path("x.jsonl"), line=1, index=0))


def parts(folder: Path) -> dict[str, VideoPart]:
    names = ("varying.mp4", "varying.mkv", "plain.mp4", "uncounted.mkv", "turned.mp4")
    made = {name: VideoPart(path=folder / name, field="video") for name in names}
    files = tuple(folder / f"{index}.png" for index in range(len(TIMES)))
    listed = {"path": files[0], "field": "video", "frames": files}
    made["list"] = VideoPart(**listed)
    made["list at a rate"] = VideoPart(**listed, frame_fps=0.8)
    made["list with times"] = VideoPart(**listed, frame_seconds=TIMES)
    return made


CASES = (
    "varying.mp4",
    "varying.mkv",
    "plain.mp4",
    "uncounted.mkv",
    "turned.mp4",
    "list",
    "list at a rate",
    "list with times",
)


@pytest.mark.parametrize("case", CASES)
def test_tokens_times_and_pixels_equal_the_processor(
    case: str, model: tuple[Checkpoint, Encoder], media: Path
) -> None:
    """The processor gets frames and metadata that this test works out by itself."""
    checkpoint, encoder = model
    said = conversation(parts(media)[case])
    sample = encoder.encode(said)
    processor = checkpoint.processor
    rule = processor.video_processor.sample_frames
    frames, metadata = taken_by_hand(case, media, sample.videos[0].frame_indices, rule)
    text = processor.apply_chat_template(to_chat(said), tokenize=False)
    theirs = processor(
        text=[text],
        videos=[torch.from_numpy(frames.copy())],
        videos_kwargs={"video_metadata": [metadata], "do_sample_frames": False},
        return_tensors="pt",
    )
    assert sample.input_ids.tolist() == theirs["input_ids"][0].tolist()
    pixels = load_pixels(sample, processor)
    for key in ("pixel_values_videos", "video_grid_thw"):
        torch.testing.assert_close(pixels[key], theirs[key], rtol=0, atol=0)
    if "second_per_grid_ts" in theirs:
        seconds = torch.tensor([float(value) for value in theirs["second_per_grid_ts"]])
        torch.testing.assert_close(pixels["second_per_grid_ts"], seconds, rtol=1e-5, atol=0)


def taken_by_hand(
    case: str, media: Path, indices: tuple[int, ...], rule: Any
) -> tuple[np.ndarray, VideoMetadata]:
    """Frames and their real times, in milliseconds, without a line of Sightline's.

    A frame that is taken again has the instant at which it is seen again.
    """
    if case.startswith("list"):
        frames = [np.asarray(Image.open(media / f"{index}.png")) for index in range(len(TIMES))]
        if case == "list with times":
            # The last frame is shown as long as the others on average.
            total = TIMES[-1] * len(TIMES) / (len(TIMES) - 1)
            ticks, clock = [round(1000 * seconds) for seconds in TIMES], 1000.0
        else:
            ticks, clock = list(range(len(TIMES))), 3.0 if case == "list" else 0.8
            total = len(TIMES) / clock
        return np.stack(frames), VideoMetadata(
            total_num_frames=total * clock,  # type: ignore[arg-type]
            fps=clock,
            frames_indices=ticks,
        )
    with av.open(str(media / case)) as container:
        decoded = list(container.decode(video=0))
    times = [round(1000 * float(frame.time - decoded[0].time)) for frame in decoded]
    last = 1000 / 10
    if case.startswith("varying"):
        assert times == list(VARYING)
        with av.open(str(media / case)) as container:
            stream = container.streams.video[0]
            packets = [packet for packet in container.demux(stream) if packet.size]
        final = max(packets, key=lambda packet: packet.pts or 0)
        last = 1000 * float((final.duration or 0) * final.time_base)
        last = last or VARYING[-1] / (len(VARYING) - 1)
    pixels = np.stack([decoded[index].to_ndarray(format="rgb24") for index in indices])
    if case == "turned.mp4":
        pixels = np.rot90(pixels, k=1, axes=(1, 2))
    total = times[-1] + last
    count = len(times)
    wanted = rule(VideoMetadata(total_num_frames=count, fps=1000 * count / total), fps=3.0)
    shown = [
        int(at) * total / count if index in indices[:place] else times[index]
        for place, (index, at) in enumerate(zip(indices, wanted, strict=True))
    ]
    return pixels, VideoMetadata(
        total_num_frames=total,  # type: ignore[arg-type]
        fps=1000.0,
        frames_indices=shown,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("case", CASES)
def test_metadata_for_transformers_has_the_same_times(
    case: str, model: tuple[Checkpoint, Encoder], media: Path
) -> None:
    [video] = model[1].encode(conversation(parts(media)[case])).videos
    metadata = video_metadata(video)
    seconds = metadata.timestamps
    seconds += seconds[-1:] * (len(seconds) % 2)
    middles = [(first + last) / 2 for first, last in zip(seconds[::2], seconds[1::2], strict=True)]
    assert middles == list(video.timestamps)
    assert 2 / metadata.sampled_fps == video.seconds_per_grid
    assert metadata.duration == pytest.approx(metadata.total_num_frames / (metadata.fps or 0))


def test_frames_are_those_that_are_shown_at_the_wanted_instants(
    model: tuple[Checkpoint, Encoder], media: Path
) -> None:
    """The rule of the family's processor on a video of constant rate, and what is seen then."""
    checkpoint, encoder = model
    [video] = encoder.encode(conversation(parts(media)["varying.mkv"])).videos
    seconds = VARYING[-1] / 1000 + 0.001
    count = len(VARYING)
    rule: Any = checkpoint.processor.video_processor.sample_frames
    wanted = rule(VideoMetadata(total_num_frames=count, fps=count / seconds), fps=3.0)
    instants = [int(index) * seconds / count for index in wanted]
    shown = [max(i for i, tick in enumerate(VARYING) if tick / 1000 <= at) for at in instants]
    # The length of the last frame is not in the file: a frame more or less at the end.
    assert len(shown) == len(video.frame_indices)
    near = np.abs(np.array(shown) - np.array(video.frame_indices))
    assert near.max() <= 1
    assert (near == 0).mean() > 0.8
    assert list(video.frame_indices) != [int(index) for index in wanted]


@pytest.mark.parametrize("total", [6, 7, 30, 241])
@pytest.mark.parametrize("number", [2, 3, 5, 6, 16])
def test_a_number_of_frames_is_the_processors_own_rule(
    total: int, number: int, tiny_folder: Callable[[str], Path]
) -> None:
    for family in FAMILY_KEYS:
        checkpoint, _ = opened(tiny_folder(family), num_frames=number, min_frames=2)
        theirs: Any = checkpoint.processor.video_processor
        sampling: FrameSampling = checkpoint.preprocessing.sampling
        metadata = VideoMetadata(total_num_frames=total, fps=25.0)
        if number > total and sampling.rule == "arange_truncated":
            with pytest.raises(ValueError, match="Video can't be sampled"):
                theirs.sample_frames(metadata, num_frames=number)
            with pytest.raises(LayoutError, match=f"the video has {total} frames"):
                sample_frames(total, 25.0, sampling)
            continue
        expected = [int(i) for i in theirs.sample_frames(metadata, num_frames=number)]
        assert sample_frames(total, 25.0, sampling) == expected


@pytest.mark.parametrize("family", FAMILY_KEYS)
def test_the_saved_processor_takes_the_same_number_of_frames(
    family: str, tiny_folder: Callable[[str], Path], media: Path, tmp_path: Path
) -> None:
    """From disk, and handed whole frames: it samples by itself."""
    checkpoint, encoder = opened(tiny_folder(family), num_frames=6)
    checkpoint.processor.save_pretrained(tmp_path)
    saved = AutoProcessor.from_pretrained(tmp_path)
    sample = encoder.encode(conversation(parts(media)["plain.mp4"]))
    load: Any = load_video
    whole, metadata = load(str(media / "plain.mp4"), backend="pyav")
    made = saved.video_processor(
        videos=[torch.from_numpy(whole)], video_metadata=[metadata], return_tensors="pt"
    )
    pixels = load_pixels(sample, checkpoint.processor)
    assert len(sample.videos[0].frame_indices) == 6
    torch.testing.assert_close(
        pixels["pixel_values_videos"], made["pixel_values_videos"], rtol=0, atol=0
    )


@pytest.mark.parametrize("case", CASES)
def test_the_plain_path_of_verification_sees_the_same(
    case: str, model: tuple[Checkpoint, Encoder], media: Path
) -> None:
    checkpoint, encoder = model
    said = conversation(parts(media)[case])
    sample = encoder.encode(said)
    messages = named_media(to_chat(said), sample, media, 0)
    # As the run directory keeps it.
    messages = json.loads(json.dumps(messages))
    theirs = plain_inputs(checkpoint.processor, [messages], generation_prompt=False)
    assert sample.input_ids.tolist() == theirs["input_ids"][0].tolist()
    pixels = load_pixels(sample, checkpoint.processor)
    for key in ("pixel_values_videos", "video_grid_thw"):
        torch.testing.assert_close(pixels[key], theirs[key], rtol=0, atol=0)
    if "second_per_grid_ts" in theirs:
        torch.testing.assert_close(pixels["second_per_grid_ts"], theirs["second_per_grid_ts"])
    [part] = [part for part in messages[0]["content"] if part["type"] == "video"]
    assert ("video_metadata" in part) == (case != "plain.mp4")


def test_the_plain_path_repeats_frames_where_more_are_asked_for(
    tiny_folder: Callable[[str], Path], make_video: ModuleType, tmp_path: Path
) -> None:
    checkpoint, encoder = opened(tiny_folder("qwen3_vl"), num_frames=9)
    path = make_video.write_steady_video(tmp_path / "short.mp4", 5)
    said = conversation(VideoPart(path=path, field="video"))
    sample = encoder.encode(said)
    assert frames_of(sample.videos[0], said.origin).shape[0] == 9
    theirs = plain_inputs(checkpoint.processor, [to_chat(said)], generation_prompt=False)
    assert sample.input_ids.tolist() == theirs["input_ids"][0].tolist()
    pixels = load_pixels(sample, checkpoint.processor)
    torch.testing.assert_close(
        pixels["pixel_values_videos"], theirs["pixel_values_videos"], rtol=0, atol=0
    )


def test_without_real_times_the_text_would_be_another(
    tiny_folder: Callable[[str], Path], media: Path
) -> None:
    """The comparison above can fail: index / rate gives other seconds for this file."""
    checkpoint, encoder = opened(tiny_folder("qwen3_vl"), fps=3.0)
    said = conversation(parts(media)["varying.mp4"])
    sample = encoder.encode(said)
    theirs = plain_inputs(checkpoint.processor, [to_chat(said)], generation_prompt=False)
    assert sample.input_ids.tolist() != theirs["input_ids"][0].tolist()
