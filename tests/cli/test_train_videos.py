"""A rate that varies, a list of pictures and a turned file, trained on: to a certificate."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from PIL import Image

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "video.yaml"


@pytest.fixture
def rows(tmp_path: Path, make_video: ModuleType) -> Path:
    """Rows in the shape of ShareGPT: three files, and two lists of pictures."""
    varying = [0, 40, 80, 600, 640, 1300, 1340, 1900, 2400, 2440, 2900, 3000]
    make_video.write_timed_video(tmp_path / "varying.mkv", varying)
    make_video.write_steady_video(tmp_path / "plain.mp4", 24)
    make_video.turn(make_video.write_steady_video(tmp_path / "turned.mp4", 24), 1)
    names = [f"{index}.png" for index in range(4)]
    for index, name in enumerate(names):
        Image.fromarray(make_video.picture(3 * index)).save(tmp_path / name)
    videos = [
        "varying.mkv",
        "plain.mp4",
        "turned.mp4",
        names,
        {"frames": names, "times": [3.0, 4.5, 5.0, 9.0]},
    ]
    path = tmp_path / "rows.jsonl"
    lines = [
        json.dumps(
            {
                "conversations": [
                    {"from": "human", "value": "<video>What is it?"},
                    {"from": "gpt", "value": f"Number {number}."},
                ],
                "videos": [video],
            }
        )
        for number, video in enumerate(videos)
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("family", "sampling"), [("qwen2_5_vl", {"fps": 4.0}), ("qwen3_vl", {"num_frames": 6})]
)
def test_videos_of_every_kind_end_in_a_certificate(
    command, rows: Path, tmp_path: Path, family: str, sampling: dict
) -> None:
    settings = yaml.safe_load(EXAMPLE.read_text("utf-8"))
    settings["model"] = f"tiny:{family}"
    settings["output"] = str(tmp_path / "runs" / "videos")
    settings["data"] = {"train": str(rows), "videos": sampling}
    settings["training"] |= {"epochs": 2}
    settings["verify"] = {"samples": 5}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    done = command("train", path)
    assert done.code == 0, done.out + done.err
    run = tmp_path / "runs" / "videos"
    certificate = json.loads((run / "certificate.json").read_text("utf-8"))
    assert certificate["verdict"] == "holds", certificate["checks"]
    held = {check["id"]: check["holds"] for check in certificate["checks"]}
    for check in ("tokens.same_ids", "preprocessing.pixels", "logits.merged"):
        assert held[check] is True
    probe = json.loads((run / "probe.json").read_text("utf-8"))
    parts = [sample["messages"][0]["content"][0] for sample in probe["samples"]]
    assert sum("video_metadata" in part for part in parts) == 4
    assert sum("taken" in part for part in parts) == 4
