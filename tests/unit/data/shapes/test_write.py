from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sightline.data.shapes import write_shapes


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def drawn_box(pixels: NDArray[np.uint8], around: list[int], margin: int) -> list[int]:
    """The box of what stands out from the background near an annotated box."""
    x1, y1, x2, y2 = around
    left, top = max(0, x1 - margin), max(0, y1 - margin)
    region = pixels[top : y2 + margin, left : x2 + margin].astype(float)
    # The four corners of the enlarged box are background, which is nearly flat.
    background = np.mean([region[0, 0], region[0, -1], region[-1, 0], region[-1, -1]], axis=0)
    distance = np.abs(region - background).max(axis=2)
    rows, columns = np.nonzero(distance > 0.5 * np.percentile(distance, 90))
    return [
        left + int(columns.min()),
        top + int(rows.min()),
        left + int(columns.max()) + 1,
        top + int(rows.max()) + 1,
    ]


@pytest.mark.parametrize(("height", "width"), [(224, 224), (101, 333), (640, 200)])
def test_annotated_boxes_are_those_of_the_drawn_pixels(
    tmp_path: Path, height: int, width: int
) -> None:
    write_shapes(tmp_path, num_images=12, height=height, width=width, max_shapes=4, seed=11)
    num_boxes = 0
    for truth in read_lines(tmp_path / "boxes.jsonl"):
        assert (truth["height"], truth["width"]) == (height, width)
        pixels = np.asarray(Image.open(tmp_path / truth["file"]))
        assert pixels.shape == (height, width, 3)
        for shape in truth["shapes"]:
            found = drawn_box(pixels, shape["box"], margin=2)
            assert np.abs(np.subtract(found, shape["box"])).max() <= 1, shape
            num_boxes += 1
    assert num_boxes > 15


def test_the_answer_repeats_the_truth(tmp_path: Path) -> None:
    write_shapes(tmp_path, num_images=5, height=100, width=200, box_space="thousandths")
    rows, truths = read_lines(tmp_path / "train.jsonl"), read_lines(tmp_path / "boxes.jsonl")
    assert rows[0]["conversations"][0] == {
        "from": "human",
        "value": "<image>\nDetect every shape. Answer in JSON.",
    }
    for row, truth in zip(rows, truths, strict=True):
        assert row["image"] == truth["file"]
        answer = json.loads(row["conversations"][1]["value"])
        assert [found["label"] for found in answer] == [s["label"] for s in truth["shapes"]]
        for found, shape in zip(answer, truth["shapes"], strict=True):
            x1, y1, x2, y2 = shape["box"]
            assert found["bbox_2d"] == [5 * x1, 10 * y1, 5 * x2, 10 * y2]


def test_a_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    options: dict[str, Any] = {"num_images": 3, "num_videos": 2, "multi_image": 2}
    sizes: dict[str, Any] = {"height": 48, "width": 64, "num_frames": 6}
    for name, seed in (("one", 4), ("two", 4), ("three", 5)):
        write_shapes(tmp_path / name, seed=seed, **options, **sizes)
    one, two, three = (contents(tmp_path / name) for name in ("one", "two", "three"))
    assert len(one) == 3 + 2 + 5 + 2
    assert one == two
    assert one.keys() == three.keys()
    assert all(one[name] != three[name] for name in one)


MAKE = """
import sys
from pathlib import Path
from sightline.data.shapes import write_shapes
write_shapes(Path(sys.argv[1]), seed=4, num_videos=2, height=48, width=64, num_frames=6)
"""


def test_memory_that_nobody_wrote_does_not_reach_a_video(tmp_path: Path) -> None:
    """The C library of Linux fills new memory with a number; other systems ignore the wish."""
    for fill in ("85", "165"):
        command = [sys.executable, "-c", MAKE, str(tmp_path / fill)]
        subprocess.run(command, check=True, env={**os.environ, "MALLOC_PERTURB_": fill})
    assert contents(tmp_path / "85") == contents(tmp_path / "165")


def test_more_pictures_leave_the_first_ones_as_they_were(tmp_path: Path) -> None:
    write_shapes(tmp_path / "few", num_images=2, height=40, width=40)
    write_shapes(tmp_path / "many", num_images=5, height=40, width=40)
    few, many = contents(tmp_path / "few"), contents(tmp_path / "many")
    assert few["images/00001.png"] == many["images/00001.png"]
    assert many["train.jsonl"].startswith(few["train.jsonl"])


def test_every_picture_has_an_answer_of_its_own(tmp_path: Path) -> None:
    summary = write_shapes(
        tmp_path, num_images=60, height=32, width=32, max_shapes=1, task="describe"
    )
    answers = {row["conversations"][1]["value"] for row in read_lines(summary.train_file)}
    assert len(answers) == 60
    assert summary.num_repeated_answers == 0


def normalised(row: dict[str, Any], layout: str) -> list[tuple[str, list[str]]]:
    """A row as (role, pieces), read by the rules of its layout alone."""
    if layout == "openai":
        turns: list[tuple[str, list[str]]] = []
        for message in row["messages"]:
            content = message["content"]
            if isinstance(content, str):
                content = [{"type": "text", "text": content}]
            turns.append((message["role"], [part[part["type"]] for part in content]))
        return turns
    media = {"image": row.get("image", row.get("images")), "video": row.get("video")}
    media["video"] = media["video"] or row.get("videos")
    files = {
        kind: iter([value] if isinstance(value, str) else value or [])
        for kind, value in media.items()
    }
    roles = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant"}
    turns = []
    for turn in row.get("conversations") or row["messages"]:
        text = turn.get("value", turn.get("content"))
        for kind in ("image", "video"):
            text = text.replace(f"<{kind}>", f"\0{kind}\0")
        pieces = [
            piece.strip("\n") if layout == "official" else piece for piece in text.split("\0")
        ]
        named = [next(files[piece]) if piece in files else piece for piece in pieces if piece]
        turns.append((roles[turn.get("from", turn.get("role"))], named))
    assert all(next(rest, None) is None for rest in files.values())
    return turns


def test_all_layouts_say_the_same(tmp_path: Path) -> None:
    said: dict[str, list[Any]] = {}
    for layout in ("official", "sharegpt", "openai"):
        write_shapes(
            tmp_path / layout,
            num_images=2,
            num_videos=2,
            multi_image=2,
            height=32,
            width=32,
            num_frames=4,
            task="mixed",
            layout=layout,
        )
        rows = read_lines(tmp_path / layout / "train.jsonl")
        said[layout] = [normalised(row, layout) for row in rows]
        for turns in said[layout]:
            for piece in (piece for _, pieces in turns for piece in pieces):
                if piece.endswith((".png", ".mp4")):
                    assert (tmp_path / layout / piece).is_file()
    assert said["official"] == said["sharegpt"] == said["openai"]
    assert [len(turns) for turns in said["openai"]] == [2, 2, 2, 2, 4, 4]
    several = said["openai"][5]
    assert several[0][1][:4] == [
        "The first picture:",
        "images/several_00001_1.png",
        "The second picture:",
        "images/several_00001_2.png",
    ]
    assert several[2][1][1] == "images/several_00001_3.png"


def test_only_sharegpt_is_declared(tmp_path: Path) -> None:
    plain = write_shapes(tmp_path / "plain", num_images=1)
    assert plain.dataset_info_file is None
    summary = write_shapes(tmp_path / "declared", num_images=1, layout="sharegpt")
    assert summary.dataset_info_file is not None
    declared = json.loads(summary.dataset_info_file.read_text())["shapes"]
    assert (tmp_path / "declared" / declared["file_name"]).is_file()
    assert declared["columns"] == {"messages": "messages", "images": "images"}


def test_videos_show_what_the_boxes_say(tmp_path: Path) -> None:
    summary = write_shapes(
        tmp_path, num_images=0, num_videos=3, height=96, width=128, num_frames=20, seed=2
    )
    assert summary.video_codec == "libx264"
    for truth in read_lines(summary.boxes_file):
        assert (truth["num_frames"], truth["fps"]) == (20, 8.0)
        with av.open(str(tmp_path / truth["file"])) as container:
            frames = [np.asarray(frame.to_image()) for frame in container.decode(video=0)]
        assert len(frames) == 20
        assert frames[0].shape == (96, 128, 3)
        for shape in truth["shapes"]:
            assert len(shape["boxes"]) == 20
            visible = [frame for frame, box in enumerate(shape["boxes"]) if box is not None]
            assert visible == list(range(visible[0], 20))
            # Colours of yuv420p are shared by two by two pixels.
            for frame in (visible[0], 19):
                found = drawn_box(frames[frame], shape["boxes"][frame], margin=2)
                assert np.abs(np.subtract(found, shape["boxes"][frame])).max() <= 2, shape


def test_progress_and_summary(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    summary = write_shapes(
        tmp_path / "deep" / "out",
        num_images=2,
        num_videos=1,
        multi_image=1,
        height=32,
        width=32,
        num_frames=2,
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert (summary.num_rows, summary.num_images, summary.num_videos) == (4, 4, 1)
    truths = read_lines(summary.boxes_file)
    assert summary.num_shapes == sum(len(truth["shapes"]) for truth in truths)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        with pytest.raises(KeyboardInterrupt):
            write_shapes(tmp_path / name, num_images=3, height=32, width=32, on_progress=stop)
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]
