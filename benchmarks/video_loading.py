"""Frames of videos: sought against decoded in order, and beside other tools' readers.

``python benchmarks/video_loading.py [--qwen-vl-utils PYTHON] [--videos FOLDER] [--seconds 3600]``:
PYTHON is of an environment that has qwen-vl-utils, that of `make peers` where none is named; where
there is none, that column is left out. A long video is made on the spot; the others are all videos
of a folder, ../shared/data if it is there. Everything runs on one core, those who take part take
turns, and medians count. Times run from the path to the frames, header included. For the long video
every measurement is a process of its own, and the peak of memory is what comes on top of the
libraries.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from environments import add_peers
from PIL import Image

from sightline.data.shapes.clips import CODECS, write_video

TURNS = 3
REAL_TURNS = 7
NUM_FRAMES = 64
FPS = 2.0
MIN_PIXELS, MAX_PIXELS = 56 * 56, 448 * 448
LONG_HEIGHT, LONG_WIDTH, LONG_FPS = 240, 320, 10.0
SUFFIXES = (".mp4", ".avi", ".mkv", ".webm", ".mov")
HERE = Path(__file__).parent


def long_frames(count: int) -> Iterator[Image.Image]:
    """A bright bar that moves over noise, which costs a decoder something."""
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 90, (LONG_HEIGHT, LONG_WIDTH, 3), dtype=np.uint8) for _ in range(4)]
    small = [Image.fromarray(one).resize((40, 30)).resize((320, 240)) for one in noise]
    for index in range(count):
        pixels = np.array(small[index // 50 % 4])
        left = index * 3 % (LONG_WIDTH - 20)
        pixels[40:200, left : left + 20] = 255
        yield Image.fromarray(pixels)


def measure(kind: str, path: str) -> None:
    """One way of getting frames, once, in this process; prints seconds, frames and MiB as JSON."""
    work = WAYS[kind]
    load = work()
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    start = time.perf_counter()
    frames = load(path)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "frames": frames, "mib": memory("VmHWM") - before}))


def memory(name: str) -> float:
    """A line of ``/proc/self/status``, MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise KeyError(name)


Load = Callable[[str], int]


def sought(num_frames: int | None = NUM_FRAMES, least: int | None = None) -> Load:
    """Sightline's frames as they are in the file."""
    from sightline.data.videos import load, load_frames, probe_video
    from sightline.geometry import FrameSampling, take_frames

    if least is not None:
        load.MIN_SKIPPED_FRAMES = least
    sampling = FrameSampling(
        rule="linspace_rounded",
        fps=FPS,
        min_frames=4,
        max_frames=768,
        temporal_patch_size=2,
        num_frames=num_frames,
    )

    def loaded(path: str) -> int:
        info = probe_video(Path(path))
        taken = take_frames(info.num_frames, info.fps, sampling, info.times)
        return len(load_frames(Path(path), taken.indices))

    return loaded


def of_transformers(num_frames: int | None = NUM_FRAMES) -> Load:
    """The reader of transformers that uses PyAV too."""
    from transformers import Qwen3VLVideoProcessor
    from transformers.video_utils import load_video

    rule = Qwen3VLVideoProcessor().sample_frames
    fps = None if num_frames else FPS
    sample = partial(rule, num_frames=num_frames, fps=fps)
    read: Any = load_video
    return lambda path: len(read(path, backend="pyav", sample_indices_fn=sample)[0])


def by_processor() -> Load:
    """What a Qwen2.5-VL takes, by the reader and the video processor of transformers."""
    from transformers import Qwen2VLVideoProcessor
    from transformers.video_utils import load_video

    size = {"shortest_edge": MIN_PIXELS, "longest_edge": MAX_PIXELS}
    processor = Qwen2VLVideoProcessor(size=size, cap_pixels_per_frame=False)
    sample = partial(processor.sample_frames, fps=FPS)
    read: Any = load_video

    def loaded(path: str) -> int:
        frames, metadata = read(path, backend="pyav", sample_indices_fn=sample)
        processor(
            videos=[frames], video_metadata=[metadata], do_sample_frames=False, return_tensors="pt"
        )
        return len(frames)

    return loaded


def prepared(*, patches: bool = False) -> Load:
    """Sightline's frames at the size that a Qwen2.5-VL sees, as bytes; or cut into patches."""
    from sightline.data.conversation import Conversation, Message, Origin, VideoPart
    from sightline.data.media import plan_media
    from sightline.data.pixels import seen_frames
    from sightline.geometry import (
        FrameSampling,
        Patching,
        PixelBudget,
        PixelRecipe,
        Preprocessing,
        video_patches,
    )

    patching = Patching(patch_size=14, temporal_patch_size=2, spatial_merge_size=2)
    budget = PixelBudget(min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS)
    sampling = FrameSampling(
        rule="arange_truncated", fps=FPS, min_frames=4, max_frames=768, temporal_patch_size=2
    )
    preprocessing = Preprocessing(
        image_patching=patching,
        image_budget=budget,
        video_patching=patching,
        video_budget=budget,
        video_budget_scope="per_frame",
        sampling=sampling,
        timestamps_in_text=False,
    )
    recipe = PixelRecipe(
        resample="bicubic",
        backend="torch",
        rescale_factor=1.0,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )
    origin = Origin(file=Path("rows.jsonl"), line=1, index=0)

    def loaded(path: str) -> int:
        part = VideoPart(path=Path(path), field="video")
        message = Message(role="user", parts=(part,), field="messages[0]")
        _, [video] = plan_media(Conversation(messages=(message,), origin=origin), preprocessing)
        frames = seen_frames(video, origin, recipe)
        if patches:
            video_patches(frames, patching)
        return len(frames)

    return loaded


WAYS: dict[str, Callable[[], Load]] = {
    "sought": sought,
    "in order": partial(sought, least=1 << 60),
    "transformers": of_transformers,
    "sought at fps": partial(sought, None),
    "transformers at fps": partial(of_transformers, None),
    "prepared": prepared,
    "lean": partial(prepared, patches=True),
    "processor": by_processor,
}


def run(kind: str, path: Path) -> dict[str, Any]:
    """One measurement in a process of its own, on the same core."""
    return told([sys.executable, str(Path(__file__)), "--measure", kind, str(path)])


def run_qwen(python: str, paths: list[Path], **settings: Any) -> list[dict[str, Any]]:
    """One measurement of qwen-vl-utils a video, in one process, on the same core."""
    script = HERE / "peers" / "in_qwen_vl_utils.py"
    settings = settings or {"fps": FPS, "min_pixels": MIN_PIXELS, "max_pixels": MAX_PIXELS}
    said = told([python, str(script), json.dumps(settings), *map(str, paths)])
    return [{**row, "mib": said["mib"], "versions": said["versions"]} for row in said["videos"]]


def told(command: list[str]) -> dict[str, Any]:
    """What a process prints as its last line."""
    ran = subprocess.run(command, check=True, capture_output=True)
    return json.loads(ran.stdout.splitlines()[-1])


def in_turn(ways: dict[str, Callable[[], dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """All ways, one after the other, several times."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for _ in range(TURNS):
        for name, way in ways.items():
            found[name].append(way())
    return found


def middle(rows: list[dict[str, Any]], key: str) -> float:
    """The median of what was measured."""
    return median(row[key] for row in rows)


def long_video(folder: Path, seconds: int, python: str | None) -> None:
    """One long video, to a few frames: seconds, and memory."""
    path, count = folder / "long.mp4", round(seconds * LONG_FPS)
    size = (LONG_HEIGHT, LONG_WIDTH)
    codec = next(iter(CODECS))
    write_video(path, long_frames(count), size=size, fps=LONG_FPS, codec=codec)
    ways: dict[str, Callable[[], dict[str, Any]]] = {
        name: partial(run, name, path) for name in ("sought", "in order", "transformers")
    }
    if python is not None:
        ways["qwen-vl-utils"] = lambda: run_qwen(python, [path], nframes=NUM_FRAMES)[0]
    print(
        f"\n{seconds:,} s of {LONG_WIDTH} x {LONG_HEIGHT} at {LONG_FPS:g} a second "
        f"({path.stat().st_size / 2**20:.0f} MiB) to {NUM_FRAMES} frames\n"
        f"{'':<24}{'seconds':>9}{'MiB on top':>12}{'sought is':>11}"
    )
    found = in_turn(ways)
    fastest = middle(found["sought"], "seconds")
    for name, rows in found.items():
        taken = middle(rows, "seconds")
        print(f"{name:<24}{taken:>9.2f}{middle(rows, 'mib'):>12.0f}{taken / fastest:>10.1f}x")


def real_videos(folder: Path, python: str | None) -> None:
    """Videos of a folder at a rate, frames a second of computing; libraries are warm."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES)
    compared = ("sought at fps", "transformers at fps", "prepared", "lean", "processor")
    loads = {name: WAYS[name]() for name in compared}
    rates: dict[tuple[str, Path], list[float]] = {}
    for path in paths:
        for name, load in loads.items():
            load(str(path))
            rates[name, path] = []
        rates["qwen", path] = []
    for turn in range(REAL_TURNS):
        for path in paths:
            for name, load in loads.items():
                start = time.perf_counter()
                frames = load(str(path))
                rates[name, path].append(frames / (time.perf_counter() - start))
        if python is not None and turn % 2 == 0:
            # Twice each: the first time warms the libraries.
            for path, row in zip(
                paths, run_qwen(python, [*paths, *paths])[len(paths) :], strict=True
            ):
                rates["qwen", path].append(row["frames"] / row["seconds"])
    print(f"\nat {FPS:g} a second, frames/s    frames  Sightline  transformers    ratio", end="")
    print("   resized  qwen-vl-utils    ratio" if python else "   resized")
    products: list[list[float]] = [[], []]
    for path in paths:
        ours, theirs = (
            median(rates[name, path]) for name in ("sought at fps", "transformers at fps")
        )
        ready = median(rates["prepared", path])
        products[0].append(ours / theirs)
        line = f"{path.name:<29}{loads['sought at fps'](str(path)):>7}{ours:>11.1f}"
        line += f"{theirs:>14.1f}{ours / theirs:>8.2f}x{ready:>10.1f}"
        if python is not None:
            other = median(rates["qwen", path])
            products[1].append(ready / other)
            line += f"{other:>15.1f}{ready / other:>8.2f}x"
        print(line)
    for name, ratios in zip(("transformers", "qwen-vl-utils"), products, strict=True):
        if ratios:
            mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
            print(f"geometric mean against {name}: {mean:.2f}x")
    print_whole(paths, rates)


def print_whole(paths: list[Path], rates: dict[tuple[str, Path], list[float]]) -> None:
    """From the path to what the model takes."""
    print("\nto what the model takes, frames/s            lean     processor    ratio")
    ratios = []
    for path in paths:
        ours, theirs = (median(rates[name, path]) for name in ("lean", "processor"))
        ratios.append(ours / theirs)
        print(f"{path.name:<36}{ours:>13.1f}{theirs:>14.1f}{ours / theirs:>8.2f}x")
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        print(f"geometric mean against the processor: {mean:.2f}x")


def machine(python: str | None, some_video: Path) -> None:
    """What all of it ran on."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("av", "transformers")]
    if python is not None:
        told_versions = run_qwen(python, [some_video])[0]["versions"]
        versions += [f"{name} {version}" for name, version in told_versions.items()]
    print(f"{platform.machine()}, one core of {os.cpu_count()}, Python {platform.python_version()}")
    print(", ".join(versions))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_peers(parser, "qwen-vl-utils")
    parser.add_argument("--videos", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--seconds", type=int, default=3600)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(*given.measure)
        return
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        short = folder / "short.mp4"
        write_video(short, long_frames(60), size=(240, 320), fps=10.0, codec=next(iter(CODECS)))
        machine(given.qwen_vl_utils, short)
        if given.videos.is_dir():
            real_videos(given.videos, given.qwen_vl_utils)
        else:
            print(f"{given.videos} is not there: no real videos are measured")
        long_video(folder, given.seconds, given.qwen_vl_utils)


if __name__ == "__main__":
    main()
