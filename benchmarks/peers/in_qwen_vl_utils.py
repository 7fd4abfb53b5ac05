"""Videos through qwen-vl-utils' own ``fetch_video``, timed. Runs in an environment that has it.

``python in_qwen_vl_utils.py SETTINGS VIDEO...``: SETTINGS is JSON with what ``fetch_video`` takes
beside the video. Prints seconds, frames and height and width for each, the reader, and the peak of
memory over what the libraries take, as JSON, as the last line.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from pathlib import Path

from qwen_vl_utils import vision_process


def memory(name: str) -> float:
    """A line of ``/proc/self/status``, MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


def main(settings: str, *videos: str) -> None:
    """Each video once."""
    given, rows = json.loads(settings), []
    reader = vision_process.get_video_reader_backend()
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    for video in videos:
        start = time.perf_counter()
        made = vision_process.fetch_video({"video": video, **given})
        seconds = time.perf_counter() - start
        rows.append({"seconds": seconds, "frames": len(made), "size": list(made.shape[-2:])})
    versions = {name: importlib.metadata.version(name) for name in ("qwen-vl-utils", reader)}
    said = {"videos": rows, "versions": versions, "mib": memory("VmHWM") - before}
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
