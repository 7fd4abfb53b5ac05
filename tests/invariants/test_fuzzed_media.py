"""Over a thousand damaged pictures and videos, and boxes of every wrong kind.

Each is read, or refused with one error that says why: no other exception, no hang, not a word on
stderr, and not more memory than the limit of pixels allows.
"""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from sightline.config import RunConfig
from sightline.model import open_checkpoint
from sightline.preparation import PreparedData, prepare_data

NUM_PICTURES = 1000
NUM_VIDEOS = 120
MAX_PIXELS = 2_000_000
# A few pictures at the limit in RGBA, and what the libraries keep. Measured: 11.
MOST_MORE_MIB = 60
MOST_SECONDS = 5
CODES = {"media.damaged", "media.large", "media.shape", "media.missing"}

# In a process of its own: what libraries print and how much memory they take is seen from outside.
READ_ALL = """
import json, sys, time
from pathlib import Path
from sightline.data.images import load_image, probe_image_size
from sightline.data.videos import load_frames, probe_video
from sightline.errors import MediaError

limit = int(sys.argv[2])

def read_picture(path):
    size = probe_image_size(path, max_pixels=limit)
    image = load_image(path, max_pixels=limit)
    assert (image.mode, image.height, image.width) == ("RGB", *size), (size, image)

def read_video(path):
    info = probe_video(path)
    assert info.num_frames > 0 and info.fps > 0 and info.height > 0 and info.width > 0, info
    frames = load_frames(path, [0])
    assert frames.shape == (1, info.height, info.width, 3), (frames.shape, info)

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024

first = None
for path in sorted(Path(sys.argv[1]).iterdir()):
    read = read_video if path.name.startswith("video") else read_picture
    start, told = time.perf_counter(), "read"
    try:
        read(path)
    except MediaError as error:
        told = error.code
        assert error.fix and "\\n" not in error.what, error
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
    if first is None:
        # What the imports took at their height is forgotten.
        Path("/proc/self/clear_refs").write_text("5")
        first = peak()
    seconds = time.perf_counter() - start
    print(json.dumps({"name": path.name, "told": told, "seconds": seconds, "mib": peak() - first}))
"""


def write_damaged(corpus: ModuleType, folder: Path) -> None:
    """Pictures and videos, whole, damaged, empty, under a wrong name, or with absurd sizes."""
    rng = random.Random(23)
    folder.mkdir()
    made = {name: (suffix, make()) for name, (suffix, make) in corpus.PICTURES.items()}
    noise = Image.frombytes("RGB", (90, 60), random.Random(1).randbytes(90 * 60 * 3))
    Image.init()
    for kind in sorted(set(Image.SAVE) - {"PDF"}):
        # Some hold other pictures than colours, or need a library that is not there.
        with suppress(OSError, ValueError):
            made[kind] = (kind.lower()[:4], corpus.saved(noise, kind))
    made["progressive"] = ("jpg", corpus.saved(noise, "JPEG", progressive=True))
    suffixes = sorted({suffix for suffix, _ in made.values()})
    names = sorted(made)
    for number in range(NUM_PICTURES):
        suffix, content = made[names[number % len(names)]]
        if number >= len(names):
            content = b"" if rng.random() < 0.01 else corpus.damaged(content, rng)
            suffix = rng.choice(suffixes) if rng.random() < 0.2 else suffix
        (folder / f"picture-{number:04}.{suffix}").write_bytes(content)
    videos = [corpus.tiny_video(container) for container in ("mp4", "matroska", "avi", "mpegts")]
    for number in range(NUM_VIDEOS):
        content = videos[number % len(videos)]
        if number >= len(videos):
            content = b"" if rng.random() < 0.02 else corpus.damaged(content, rng)
        if rng.random() < 0.05:
            content = made[rng.choice(names)][1]
        (folder / f"video-{number:04}.mp4").write_bytes(content)


@pytest.fixture(scope="module")
def damaged_media(media_corpus: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all of them."""
    folder = tmp_path_factory.mktemp("damaged") / "media"
    write_damaged(media_corpus, folder)
    return folder


def test_a_thousand_damaged_files_are_read_or_refused(damaged_media: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-W", "always", "-c", READ_ALL, str(damaged_media), str(MAX_PIXELS)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert made.returncode == 0, made.stderr[-3000:]
    assert made.stderr == ""
    told = [json.loads(line) for line in made.stdout.splitlines()]
    assert len(told) == NUM_PICTURES + NUM_VIDEOS
    assert [row for row in told if row["told"] not in CODES | {"read"}] == []
    assert [row for row in told if row["seconds"] > MOST_SECONDS] == []
    assert told[-1]["mib"] < MOST_MORE_MIB
    # The test says little if all of them are refused, or none.
    for kind, total in (("picture", NUM_PICTURES), ("video", NUM_VIDEOS)):
        num_read = sum(row["told"] == "read" for row in told if row["name"].startswith(kind))
        assert 0.1 * total < num_read < 0.9 * total


def prepared(folder: Path, tiny_folder: Callable[[str], Path], **data: Any) -> PreparedData:
    """The data of a run whose only source is ``rows.jsonl`` or another one that is named."""
    source = data.pop("source", {"path": str(folder / "rows.jsonl")})
    model = str(tiny_folder("qwen2_5_vl"))
    config = RunConfig.model_validate(
        {
            "model": model,
            "output": str(folder / "run"),
            "data": {"train": [source], "images": {"max_file_pixels": MAX_PIXELS}, **data},
        }
    )
    return prepare_data(config, open_checkpoint(model, config.data))


def fates_of(data: PreparedData, folder: Path) -> list[dict[str, Any]]:
    """The ledger; every sample is accounted for, and a bad one with code and reason."""
    counts = data.train.write_ledger(folder / "ledger.jsonl", folder / "quarantine.jsonl")
    rows = [json.loads(line) for line in (folder / "ledger.jsonl").open(encoding="utf-8")]
    bad = [json.loads(line) for line in (folder / "quarantine.jsonl").open(encoding="utf-8")]
    assert counts.input == len(rows)
    assert len(bad) == sum(row["fate"] == "quarantined" for row in rows)
    assert all(row["code"] and row["reason"] for row in bad)
    return rows


def conversation(asked: str, answered: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]


def test_processes_that_index_damaged_files_stay_alive(
    damaged_media: Path, tmp_path: Path, tiny_folder, capfd: pytest.CaptureFixture[str]
) -> None:
    # Wide rows: a process more is only started for a quarter of a MiB.
    rows = [
        {"messages": conversation(f"<{file.name[:5].replace('pictu', 'image')}>?", "It is " * 400),
         f"{file.name[:5].replace('pictu', 'image')}s": [str(file)]}
        for file in sorted(damaged_media.iterdir())
        if int(file.stem[-4:]) % 4 == 0
    ]  # fmt: skip
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    assert len(lines) > 2 * 256 * 1024
    (tmp_path / "rows.jsonl").write_text(lines)
    source = {"path": str(tmp_path / "rows.jsonl"), "media_root": str(damaged_media)}
    tiny_folder("qwen2_5_vl")
    capfd.readouterr()
    told = fates_of(prepared(tmp_path, tiny_folder, source=source, processes=2), tmp_path)
    assert capfd.readouterr().err == ""
    assert len(told) == len(rows)
    fates = Counter(row["fate"] for row in told)
    assert min(fates["kept"], fates["quarantined"]) > len(rows) // 10
    assert {row["code"] for row in told if row["fate"] == "quarantined"} <= CODES
    # Alone it finds the same.
    alone = fates_of(
        prepared(
            tmp_path, tiny_folder, source=source, processes=1, index_folder=str(tmp_path / "x")
        ),
        tmp_path,
    )
    assert [row["fate"] for row in alone] == [row["fate"] for row in told]


NUMBERS = (
    math.nan,
    math.inf,
    -math.inf,
    -1,
    0,
    1,
    0.5,
    31.9,
    40,
    64,
    65,
    1e9,
    1e308,
    -1e308,
    10**400,
)


def wrong_boxes(number: int) -> list[list[float]]:
    """Boxes of a picture of 64 x 48 pixels; nearly all are wrong in some way."""
    rng = random.Random(29)
    made = [[rng.choice(NUMBERS) for _ in range(4)] for _ in range(number)]
    return [[10, 10, 40, 30], [40, 30, 10, 10], [10, 10, 10, 10], [], [1, 2, 3], *made]


def is_right(box: list[float]) -> bool:
    """Whether a box lies in the picture or up to two pixels over its sides, corners in order."""
    if len(box) != 4 or not all(abs(side) < 1e9 for side in box):
        return False
    left, top, right, bottom = box
    return -2 <= left <= right <= 66 and -2 <= top <= bottom <= 50


def test_boxes_of_every_wrong_kind(tmp_path: Path, tiny_folder) -> None:
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    boxes = wrong_boxes(400)
    rows = [
        {"messages": conversation("<image>Find the <ref-object>.", "<bbox>"), "images": ["a.png"],
         "objects": {"ref": ["star"], "bbox": [box]}}
        for box in boxes
    ]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = fates_of(prepared(tmp_path, tiny_folder, processes=1), tmp_path)
    assert len(told) == len(boxes)
    kept = [box for box, row in zip(boxes, told, strict=True) if row["fate"] == "kept"]
    assert kept
    assert [box for box in boxes if is_right(box)] == kept


def test_boxes_of_coco_of_every_wrong_kind(tmp_path: Path, tiny_folder) -> None:
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    boxes = wrong_boxes(300)
    record = {
        "images": [{"id": i, "file_name": "a.png", "width": 64, "height": 48}
                   for i in range(len(boxes))],
        "categories": [{"id": 1, "name": "star"}],
        "annotations": [{"id": i, "image_id": i, "category_id": 1, "bbox": box, "iscrowd": 0}
                        for i, box in enumerate(boxes)],
    }  # fmt: skip
    (tmp_path / "coco.json").write_text(json.dumps(record))
    source = {"path": str(tmp_path / "coco.json")}
    told = fates_of(prepared(tmp_path, tiny_folder, source=source, processes=1), tmp_path)
    assert len(told) == len(boxes)
    for box, row in zip(boxes, told, strict=True):
        corners = box
        if len(box) == 4 and all(abs(side) < 1e9 for side in box):
            corners = [box[0], box[1], box[0] + box[2], box[1] + box[3]]
        assert (row["fate"] == "kept") == is_right(corners), box
    assert len({row["fate"] for row in told}) == 2


def test_boxes_in_text_of_every_wrong_kind(tmp_path: Path, tiny_folder) -> None:
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    boxes = [box for box in wrong_boxes(300) if all(abs(side) < 10**300 for side in box)]
    rows = [
        {"messages": conversation("<image>Find it.", json.dumps([{"bbox_2d": box, "label": "x"}])),
         "images": ["a.png"]}
        for box in boxes
    ]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"path": str(tmp_path / "rows.jsonl"), "text_boxes": "pixels"}
    told = fates_of(prepared(tmp_path, tiny_folder, source=source, processes=1), tmp_path)
    for box, row in zip(boxes, told, strict=True):
        # What JSON has no numbers for is no box, and stays text.
        is_written_plainly = box and all(math.isfinite(side) and abs(side) < 1e9 for side in box)
        if is_written_plainly:
            assert (row["fate"] == "kept") == is_right(box), box
    assert len({row["fate"] for row in told}) == 2
